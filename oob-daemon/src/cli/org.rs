//! `org`: who decides in the organisation, and what waits for their signatures.

use super::{
    args::{AdminVerb, OrgVerb, ProposeVerb},
    connect,
    printer::Printer,
};
use crate::{
    client::Client,
    failure::Failure,
    plain::plain_line,
    schema::{Admin, Nothing, Org, Proposal, ProposalRequest, Signed},
    settings::Home,
};

/// Letters of an id that are shown: enough to tell proposals apart, few enough to type.
const SHORT: usize = 8;

pub(super) async fn run(
    verb: &OrgVerb,
    yes: bool,
    home: &Home,
    printer: &Printer,
) -> Result<(), Failure> {
    let mut client = connect(home).await?;
    match verb {
        OrgVerb::Show => {
            let org: Org = client.get("/api/v1/org").await?;
            printer.data(&org, Org::page);
            if !org.proposals.is_empty() {
                printer.talk("something waits for signatures: oob org status");
            }
            Ok(())
        }
        OrgVerb::Status => {
            let org: Org = client.get("/api/v1/org").await?;
            for proposal in &org.proposals {
                if !printer.data(proposal, |proposal| proposal.page()) {
                    break;
                }
            }
            if org.proposals.is_empty() {
                printer.talk("nothing waits for signatures");
            }
            Ok(())
        }
        OrgVerb::Admin { verb: AdminVerb::Offer } => {
            let done: Nothing = client.post("/api/v1/org/offers", &Nothing {}).await?;
            printer.data(&done, |_| "this device has a key to be an admin with".to_owned());
            printer.talk("ask an admin to name you: oob org propose admins NAME...");
            Ok(())
        }
        OrgVerb::Propose { verb } => propose(verb, yes, &mut client, printer).await,
        OrgVerb::Sign { id } => sign(id, yes, &mut client, printer).await,
    }
}

async fn propose(
    verb: &ProposeVerb,
    yes: bool,
    client: &mut Client,
    printer: &Printer,
) -> Result<(), Failure> {
    let (request, question) = match verb {
        ProposeVerb::Admins { names, sign } => {
            let org: Org = client.get("/api/v1/org").await?;
            let all = names.iter().map(|name| plain_line(name)).collect::<Vec<_>>().join(", ");
            let now = named(&org.admins, false);
            let question = format!("Admins are {now}. Propose {all} instead?");
            (ProposalRequest { admins: Some(names.clone()), k: *sign, name: None }, question)
        }
        ProposeVerb::Name { name } => {
            let question = format!("Propose to name the organisation {:?}?", plain_line(name));
            (ProposalRequest { admins: None, k: None, name: Some(name.clone()) }, question)
        }
    };
    if !yes && printer.can_ask() && !printer.confirm(&question) {
        return Err(Failure::new("declined", "nothing was proposed")
            .hint("see who decides now: oob org show"));
    }
    let signed: Signed = client.post("/api/v1/org/proposals", &request).await?;
    printer.data(&signed, Signed::words);
    tell_others(&signed, printer);
    Ok(())
}

async fn sign(id: &str, yes: bool, client: &mut Client, printer: &Printer) -> Result<(), Failure> {
    let org: Org = client.get("/api/v1/org").await?;
    let wanted = id.trim().to_lowercase();
    let begins: Vec<&Proposal> = org
        .proposals
        .iter()
        .filter(|one| !wanted.is_empty() && one.proposal.starts_with(&wanted))
        .collect();
    let [proposal] = begins.as_slice() else {
        return Err(Failure::new(
            "not_found",
            format!("no single open proposal begins with {id:?}"),
        )
        .hint("see which there are: oob org status"));
    };
    let question = format!("{}\nSign it?", proposal.page());
    if !yes && printer.can_ask() && !printer.confirm(&question) {
        return Err(
            Failure::new("declined", "nothing was signed").hint("look again: oob org status")
        );
    }
    let path = format!("/api/v1/org/proposals/{}/sign", proposal.proposal);
    let signed: Signed = client.post(&path, &Nothing {}).await?;
    printer.data(&signed, Signed::words);
    tell_others(&signed, printer);
    Ok(())
}

fn tell_others(signed: &Signed, printer: &Printer) {
    if !signed.decided {
        printer.talk(&format!("the others sign it with: oob org sign {}", signed.short()));
    }
}

/// Names; `strange` says where a key was never offered by whom it is proposed for.
fn named(admins: &[Admin], strange: bool) -> String {
    if admins.is_empty() {
        return "nobody".to_owned();
    }
    let name = |admin: &Admin| {
        let name = plain_line(admin.name.as_deref().unwrap_or("somebody unknown here"));
        match (admin.me, admin.member.is_some() && !admin.offered) {
            (true, _) => format!("{name} (you)"),
            (false, true) if strange => format!("{name} (NOT A KEY OF THEIRS)"),
            (false, _) => name,
        }
    };
    admins.iter().map(name).collect::<Vec<_>>().join(", ")
}

impl Org {
    fn page(&self) -> String {
        let mut lines = vec![
            plain_line(&self.name),
            format!("id      {}", self.org),
            format!("people  {}", self.members),
            format!("admins  {}", named(&self.admins, false)),
            match (self.k, self.admins.len()) {
                (1, 1) => "decides the one admin alone; if that key is lost, nobody can".to_owned(),
                (k, n) => format!("decide  {k} of {n} together"),
            },
        ];
        if !self.offers.is_empty() {
            lines.push(format!("offers  {}", named(&self.offers, false)));
        }
        lines.join("\n")
    }
}

impl Proposal {
    fn page(&self) -> String {
        let short: String = self.proposal.chars().take(SHORT).collect();
        let what = match (&self.admins, &self.name) {
            (Some(admins), _) => {
                format!(
                    "admins: {}; {} of them decide",
                    named(admins, true),
                    self.k.unwrap_or_default()
                )
            }
            (None, Some(name)) => format!("name: {:?}", plain_line(name)),
            (None, None) => "something this version does not know".to_owned(),
        };
        let head = format!("{short}  {what}");
        let signed = format!(
            "          signed by {} of {}: {}",
            self.signed.len(),
            self.needed,
            named(&self.signed, false)
        );
        format!("{head}\n{signed}\n          not by {}", named(&self.missing, false))
    }
}

impl Signed {
    fn short(&self) -> String {
        self.proposal.chars().take(SHORT).collect()
    }

    fn words(&self) -> String {
        match (self.decided, self.missing) {
            (true, _) => format!("{}  signed by enough: it counts", self.short()),
            (false, missing) => format!("{}  signed; {missing} more must sign", self.short()),
        }
    }
}
