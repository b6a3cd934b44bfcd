//! `me` and `members`.

use super::{Answer, Reply, Shared};
use crate::schema::{Me, Member, Members, Stamp};
use axum::extract::State;

pub(super) async fn me(State(shared): State<Shared>) -> Reply<Me> {
    Reply(shared.node.me().into())
}

pub(super) async fn members(State(shared): State<Shared>) -> Answer<Members> {
    let mut members: Vec<Member> = match shared.node.org() {
        None => Vec::new(),
        Some(org) => org
            .members()
            .into_iter()
            .map(|member| Member {
                me: member.me,
                member: member.id.to_string(),
                name: member.name,
                roles: member.roles.iter().map(|role| role.as_str().to_owned()).collect(),
            })
            .collect(),
    };
    members.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.member.cmp(&b.member)));
    Ok(Reply(Members { members }))
}

impl From<oob_core::Identity> for Me {
    fn from(me: oob_core::Identity) -> Self {
        let (org, org_name) = me.org.map(|org| (org.id.to_string(), org.name)).unzip();
        Self {
            member: me.member.map(|member| member.to_string()),
            device: me.device.to_string(),
            org,
            home: me.home.display().to_string(),
            name: me.name,
            org_name,
            restored: me.restored.map(Stamp::from),
        }
    }
}
