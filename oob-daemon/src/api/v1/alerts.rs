//! `alerts`: raising, answering and reading them. Where an id is asked for, its unique beginning is enough.

use super::{Answer, Reply, Shared, body::Json};
use crate::{
    failure::Failure,
    schema::{AckRequest, Alert, AlertAck, AlertRequest, Alerts},
};
use axum::extract::{Path, State};
use oob_core::{AlertAsked, AlertOptions, AlertStatus, Severity};
use std::time::Duration;

/// The one audience there is.
const EVERYBODY: &str = "everybody";

pub(super) async fn list(State(shared): State<Shared>) -> Answer<Alerts> {
    let alerts = shared.node.alerts().list().await?;
    Ok(Reply(Alerts { alerts: alerts.into_iter().map(Alert::from).collect() }))
}

pub(super) async fn raise(
    State(shared): State<Shared>,
    Json(request): Json<AlertRequest>,
) -> Answer<Alert> {
    if let Some(to) = request.to.as_deref().filter(|to| to.trim() != EVERYBODY) {
        return Err(Failure::new("not_yet", format!("{to:?} cannot be alerted apart"))
            .hint(
                "this version alerts everybody: leave --to out, or write to people one by one: \
                 oob send NAME TEXT",
            )
            .into());
    }
    let word = request.severity.as_deref().unwrap_or(Severity::default().as_str());
    let severity: Severity = word.parse().map_err(|()| {
        Failure::new("bad_request", format!("{word:?} is not a severity"))
            .hint("give info, warning or critical")
    })?;
    if shared.node.org().is_none() {
        return Err(super::no_org().into());
    }
    let mut options = AlertOptions::default();
    options.life = request.life_ms.map_or(options.life, Duration::from_millis);
    options.answers = request.answers.unwrap_or_default();
    let alerts = shared.node.alerts();
    let id = alerts.raise_with(severity, request.text, options).await?;
    Ok(Reply(alerts.get(id).await?.into()))
}

pub(super) async fn show(State(shared): State<Shared>, Path(id): Path<String>) -> Answer<Alert> {
    let alerts = shared.node.alerts();
    let id = alerts.find(&id).await?;
    Ok(Reply(alerts.get(id).await?.into()))
}

pub(super) async fn ack(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Json(request): Json<AckRequest>,
) -> Answer<Alert> {
    let alerts = shared.node.alerts();
    let id = alerts.find(&id).await?;
    match request.answer {
        None => alerts.acknowledge(id).await?,
        Some(word) => alerts.answer(id, &word).await?,
    }
    Ok(Reply(alerts.get(id).await?.into()))
}

impl From<AlertStatus> for Alert {
    fn from(status: AlertStatus) -> Self {
        let AlertStatus { alert, acked, pending, unreachable, .. } = status;
        let (pending, pending_names) = asked(pending);
        let (unreachable, unreachable_names) = asked(unreachable);
        Self {
            id: alert.id.to_string(),
            author: alert.author_id.to_string(),
            author_name: alert.author,
            severity: alert.severity.as_str().to_owned(),
            text: alert.text,
            issued: alert.issued.into(),
            expires: alert.expires.into(),
            outgoing: alert.outgoing,
            expired: alert.expired,
            answers: alert.answers,
            acked: acked
                .into_iter()
                .map(|ack| AlertAck {
                    member: ack.member.to_string(),
                    name: ack.name,
                    time: ack.time.into(),
                    answer: ack.answer,
                })
                .collect(),
            pending,
            pending_names,
            unreachable,
            unreachable_names,
        }
    }
}

fn asked(people: Vec<AlertAsked>) -> (Vec<String>, Vec<String>) {
    people.into_iter().map(|asked| (asked.member.to_string(), asked.name)).unzip()
}
