//! The demo: three real daemons on this machine meet, talk, raise an alert, and carry a message for one who is away while its
//! author goes away too. A step is `ok` only by evidence from the daemon at the receiving end, or from the system where a
//! process is to be gone; nothing is assumed from a call that returned.

mod actor;
mod folder;
mod stage;
mod steps;

use self::{folder::Folder, stage::Stage};
use crate::{failure::Failure, schema::Step, service::millis};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::timeout,
};

/// What a demo is to do.
pub(crate) struct Plan {
    /// End after the last step instead of going on until Ctrl-C.
    pub(crate) once: bool,
    /// Keep everything in this folder.
    pub(crate) keep: Option<PathBuf>,
    /// Time for all steps together.
    pub(crate) limit: Duration,
}

/// What a demo tells while it goes on.
pub(crate) enum Told<'a> {
    /// A step is done or has failed.
    Step(&'a Step),
    /// What the next step waits for.
    Waiting(&'a str),
    /// All steps are done and the daemons that are left go on. The page is that of one of them, whose link is good once.
    Running { folder: &'a Path, page: Option<&'a str> },
}

/// Runs the demo; returns how long its steps took. Every daemon is gone when this returns, and when it is dropped.
pub(crate) async fn run(plan: Plan, mut tell: impl FnMut(Told<'_>)) -> Result<Duration, Failure> {
    let mut terminate = signal(SignalKind::terminate())
        .map_err(|e| Failure::internal("signals cannot be heard").cause(e))?;
    let mut interrupt = signal(SignalKind::interrupt())
        .map_err(|e| Failure::internal("signals cannot be heard").cause(e))?;
    let folder = Folder::make(plan.keep)?;
    let began = Instant::now();
    let mut stage = Stage {
        folder: folder.path(),
        passphrase: folder.passphrase()?,
        launches: Vec::new(),
        actors: Vec::new(),
        step: "found",
        began,
        seen: Value::Null,
    };
    let outcome = tokio::select! {
        outcome = timeout(plan.limit, stage.play(&mut tell)) => outcome.unwrap_or_else(|_| {
            Err(Failure::new("timeout", format!("not done within {} s", plan.limit.as_secs_f64())).hint("give it more time: oob demo --timeout 300s"))
        }),
        _ = terminate.recv() => Err(stopped()),
        _ = interrupt.recv() => Err(stopped()),
    };
    let spent = began.elapsed();
    if let Err(failure) = &outcome {
        // The step that was under way has failed, and says how.
        let mut detail = json!({ "error": failure.code(), "message": failure.to_string() });
        if let Some(object) = detail.as_object_mut() {
            object.insert("hint".into(), failure.next().into());
            object.insert("seen".into(), stage.seen.take());
        }
        tell(Told::Step(&Step {
            step: stage.step.into(),
            ok: false,
            ms: millis(stage.began.elapsed()),
            detail,
        }));
    } else if !plan.once {
        let page = stage.page().await;
        tell(Told::Running { folder: stage.folder, page: page.as_deref() });
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
    tell(Told::Waiting("stopping the daemons"));
    let ended = stage.end().await;
    drop(folder);
    outcome.and(ended).map(|()| spent)
}

fn stopped() -> Failure {
    Failure::new("demo_failed", "stopped before the last step")
        .hint("run it again: oob demo --once")
}
