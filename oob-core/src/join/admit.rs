//! The side that was dialled: admits a joiner, or hears of a member.

use super::{
    Gate,
    line::{Line, LineError, STEP},
};
use oob_engine::{
    effect::{Answer, CommandError, JoinError},
    input::Command,
};
use oob_mesh::JoinStream;
use oob_proto::{
    limits,
    wire::{JoinRefused, join_frame::Kind},
};
use std::time::Duration;
use tokio::time::timeout;

/// How long one join stream is answered in all, however it moves: a joiner does not wait longer either, and one whose
/// answer is cut off asks again.
const IN_ALL: Duration = Duration::from_secs(30);

/// Answers one join stream to its end.
pub(crate) async fn answer(gate: &Gate, stream: JoinStream) -> Result<(), LineError> {
    timeout(IN_ALL, converse(gate, stream)).await.map_err(|_| LineError::Late(IN_ALL))?
}

async fn converse(gate: &Gate, stream: JoinStream) -> Result<(), LineError> {
    let Some(org) = gate.org() else {
        // Nobody can be admitted here; the stranger learns no more than a closed stream tells.
        return Ok(());
    };
    let transport = stream.remote;
    let mut line = Line::answer(stream, &org, &gate.keys.dnk).await?;
    let Answer::Proof(proof) =
        run(gate, Command::JoinProof).await?.map_err(|_| LineError::Stopping)?
    else {
        return Err(LineError::Stopping);
    };
    line.send(Kind::Proof(proof)).await?;

    let command = match line.receive(limits::JOIN_ASK_BYTES, STEP).await? {
        Kind::Request(ask) => Command::Admit {
            ask,
            handshake_hash: line.handshake_hash(),
            dnk: line.remote(),
            transport,
        },
        Kind::Show(show) => Command::Learn { ops: show.ops },
        _ => return Err(LineError::Unexpected),
    };
    match run(gate, command).await? {
        Ok(Answer::Answer(answer)) => {
            gate.settled().await;
            line.send(Kind::Answer(*answer)).await?;
        }
        Ok(_) => gate.settled().await,
        Err(error) => {
            tracing::debug!(%error, "somebody was not admitted");
            line.send(Kind::Refused(JoinRefused { code: code(&error) })).await?;
        }
    }
    line.into_pipe().close().await;
    Ok(())
}

async fn run(gate: &Gate, command: Command) -> Result<Result<Answer, CommandError>, LineError> {
    gate.commands.try_run(command).await.map_err(|_| LineError::Stopping)
}

/// What the joiner is told: enough to know whether to ask for another invitation or another member.
fn code(error: &CommandError) -> u32 {
    match error {
        CommandError::Join(error) => error.code(),
        _ => JoinError::NotAdmitter.code(),
    }
}
