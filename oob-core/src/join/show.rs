//! A member shows itself to another who has not heard of its admission.

use super::{
    Gate,
    line::{Line, LineError, STEP},
};
use oob_engine::{effect::Answer, input::Command};
use oob_mesh::FoundBy;
use oob_proto::{TransportKey, limits, wire::join_frame::Kind};

/// Shows the member behind a key, at an address, how this device was admitted; then the mesh may try again.
pub(crate) async fn show(gate: &Gate, key: TransportKey, address: &str) -> Result<(), LineError> {
    let snapshot = gate.snapshot();
    let (Some(org), Some(device)) = (gate.org(), snapshot.roster.by_transport(&key)) else {
        return Ok(());
    };
    let stream = gate.mesh.open_join(address).await.map_err(|_| LineError::Ended)?;
    if stream.remote != key {
        return Err(LineError::Impostor);
    }
    let mut line = Line::dial(stream, &org, &gate.keys.dnk).await?;
    // What is shown holds names: only the device that the log certifies may read it.
    if line.remote() != device.dnk {
        return Err(LineError::Impostor);
    }
    let Kind::Proof(_) = line.receive(limits::JOIN_BYTES, STEP).await? else {
        return Err(LineError::Unexpected);
    };
    let Ok(Answer::Show(ops)) = gate.commands.run(Command::JoinShow).await else {
        return Err(LineError::Stopping);
    };
    line.send(Kind::Show(ops)).await?;
    match line.receive(limits::JOIN_ASK_BYTES, STEP).await {
        Err(LineError::Ended) => {}
        Ok(Kind::Refused(refused)) => {
            tracing::debug!(code = refused.code, "a member does not accept our admission");
            return Ok(());
        }
        Ok(_) => return Err(LineError::Unexpected),
        Err(error) => return Err(error),
    }
    let _ = gate.mesh.learn(Some(key), address, FoundBy::Learned).await;
    Ok(())
}
