//! Founding, inviting, admitting, joining, and what is refused.

use crate::world::{World, through_text};
use oob_engine::{
    effect::{CommandError, JoinError},
    input::Command,
    model::{Name, Role},
};

fn refused(error: CommandError) -> JoinError {
    match error {
        CommandError::Join(error) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_invited_person_becomes_a_member_on_both_sides() {
    let mut world = World::new(&["Dana", "Sam"]);
    world.found(0);
    let link = through_text(&world.invite(0));
    world.join(1, 0, &link).unwrap();
    for device in [0, 1] {
        assert_eq!(world.roster_names(device), ["Dana", "Sam"]);
    }
    let snapshot = world.engine(1).snapshot();
    assert_eq!(snapshot.org.as_ref().unwrap().name.as_str(), "Harbour Clinic");
    assert_eq!(snapshot.screening.headers.len(), 2, "one epoch of each ring was handed over");
}

#[test]
fn a_third_person_is_admitted_by_the_second_while_the_inviter_is_away() {
    let mut world = World::new(&["Dana", "Sam", "Noor"]);
    world.found(0);
    let first = world.invite(0);
    world.join(1, 0, &first).unwrap();
    // Sam has not heard of this invitation: the link brings it.
    let second = through_text(&world.invite(0));
    world.kill(0);
    world.join(2, 1, &second).unwrap();
    world.start(0);
    assert_eq!(world.roster_names(0), ["Dana", "Sam"]);
    // Dana does not know Noor yet and ends the stream; Noor shows the admission, and then is let in.
    let link = world.connect(2, 0);
    assert!(!world.links.contains_key(&link));
    let oob_engine::effect::Answer::Show(show) = world.command(2, Command::JoinShow).unwrap()
    else {
        panic!()
    };
    world.command(0, Command::Learn { ops: show.ops }).unwrap();
    assert_eq!(world.roster_names(0), ["Dana", "Noor", "Sam"]);
    world.connect(2, 0);
    world.settle();
    world.send(0, 2, "Noor, are you there?");
    world.settle();
    assert_eq!(world.texts(2, 0), ["Noor, are you there?"]);
}

#[test]
fn an_invitation_is_good_once_and_in_its_time() {
    let mut world = World::new(&["Dana", "Sam", "Noor", "Kim"]);
    world.found(0);
    let link = world.invite(0);
    world.join(1, 0, &link).unwrap();
    assert_eq!(refused(world.join(2, 0, &link).unwrap_err()), JoinError::Used);

    let late = world.invite_for(0, 1, 60_000);
    world.pass(60_001);
    assert_eq!(refused(world.join(2, 0, &late).unwrap_err()), JoinError::Expired);

    let two = world.invite_for(0, 2, 60_000);
    world.join(2, 0, &two).unwrap();
    world.join(3, 0, &two).unwrap();
    assert_eq!(world.roster_names(0), ["Dana", "Kim", "Noor", "Sam"]);
}

#[test]
fn an_altered_or_foreign_invitation_admits_nobody() {
    let mut world = World::new(&["Dana", "Sam", "Mallory"]);
    world.found(0);
    world.found(2);
    let good = world.invite(0);
    let mut other_secret = good.clone();
    other_secret.secret[0] ^= 1;
    assert_eq!(refused(world.join(1, 0, &other_secret).unwrap_err()), JoinError::Invalid);
    // Mallory answers for an organisation that is not hers.
    let mut foreign = good.clone();
    foreign.org_id = world.engine(2).snapshot().org.as_ref().unwrap().id.to_vec();
    assert!(matches!(
        refused(world.join(1, 0, &foreign).unwrap_err()),
        JoinError::Impostor | JoinError::Invalid
    ));
    assert_eq!(world.roster_names(0), ["Dana"]);
    world.join(1, 0, &good).unwrap();
}

#[test]
fn a_request_with_one_signature_altered_is_refused() {
    for place in 0..4 {
        let mut world = World::new(&["Dana", "Sam"]);
        world.found(0);
        let link = world.invite(0);
        let refusal = world
            .join_with(1, 0, &link, |ask| ask.request.as_mut().unwrap().sigs[place].sig[5] ^= 1);
        assert_eq!(refused(refusal.unwrap_err()), JoinError::Invalid, "signature {place}");
        assert_eq!(world.roster_names(0), ["Dana"]);
        world.join(1, 0, &link).unwrap();
    }
}

#[test]
fn a_request_made_for_another_handshake_is_refused() {
    let mut world = World::new(&["Dana", "Sam", "Noor"]);
    world.found(0);
    let link = world.invite(0);
    let mut stolen = None;
    let _ = world.join_with(1, 0, &link, |ask| {
        stolen = Some(ask.clone());
        ask.request = None;
    });
    let refusal = world.join_with(2, 0, &link, |ask| *ask = stolen.clone().unwrap());
    assert_eq!(refused(refusal.unwrap_err()), JoinError::Invalid);
    assert_eq!(world.roster_names(0), ["Dana"]);
}

#[test]
fn an_answer_lost_on_its_way_is_given_again_even_after_the_invitation_expired() {
    let mut world = World::new(&["Dana", "Sam"]);
    world.found(0);
    let link = world.invite_for(0, 1, 60_000);
    // The request is taken, and Sam's laptop dies before the answer comes.
    let disk = world.devices[1].disk.image();
    world.join(1, 0, &link).unwrap();
    let _ = disk;
    let before = world.engine(0).snapshot().roster.version;
    world.pass(120_000);
    world.kill(1);
    world.devices[1].disk = disk;
    world.start(1);
    // The image is from before the request, so the keys of the second request are new in bundle and relay key, and the
    // device is the same.
    world.join(1, 0, &link).unwrap();
    assert_eq!(world.engine(0).snapshot().roster.version, before, "no second redemption");
    world.connect(0, 1);
    world.settle();
    world.send(1, 0, "it was I who asked");
    world.settle();
    assert_eq!(world.texts(0, 1), ["it was I who asked"]);
    // Dana knew the bundle of the first request, whose secrets are gone.
    world.send(0, 1, "do you hear me?");
    world.settle();
    assert_eq!(world.texts(1, 0), ["it was I who asked", "do you hear me?"]);
}

#[test]
fn a_name_that_is_taken_is_refused() {
    let mut world = World::new(&["Dana", "dana"]);
    world.found(0);
    let link = world.invite(0);
    assert_eq!(refused(world.join(1, 0, &link).unwrap_err()), JoinError::NameTaken);
}

#[test]
fn only_an_admin_invites_and_only_responders() {
    let mut world = World::organisation(&["Dana", "Sam"]);
    let invite = |role| Command::Invite { role, uses: 1, life_ms: 60_000, name: None };
    assert_eq!(world.command(1, invite(Role::Responder)).unwrap_err(), CommandError::NotAdmin);
    let admin = world.command(0, invite(Role::Admin)).unwrap_err();
    assert_eq!(admin, CommandError::RoleNotYet { role: Role::Admin });
    let many = Command::Invite { role: Role::Responder, uses: 0, life_ms: 60_000, name: None };
    assert!(matches!(
        world.command(0, many).unwrap_err(),
        CommandError::OutOfRange { least: 1, .. }
    ));
    let again =
        world.command(0, Command::Found { name: Name::parse("Other").unwrap() }).unwrap_err();
    assert_eq!(again, CommandError::HasOrg);
}

#[test]
fn an_invitation_for_a_person_admits_nobody_else() {
    let mut world = World::new(&["Dana", "Sam", "Noor"]);
    world.found(0);
    let name = Some(Name::parse("Noor").unwrap());
    let command = Command::Invite { role: Role::Responder, uses: 1, life_ms: 60_000, name };
    let Ok(oob_engine::effect::Answer::Invited { link, .. }) = world.command(0, command) else {
        panic!()
    };
    assert_eq!(refused(world.join(1, 0, &link).unwrap_err()), JoinError::Invalid);
    world.join(2, 0, &link).unwrap();
}

/// Without multicast, two people admitted at the same moment find each other only through who admitted them.
#[test]
fn members_tell_each_other_where_the_others_are() {
    let mut world = World::organisation(&["Dana", "Sam", "Noor"]);
    for device in 0..3 {
        let addresses = vec![format!("/ip4/10.0.0.{device}/tcp/4801")];
        world.input(device, oob_engine::Input::Listening { addresses });
    }
    world.connect(0, 1);
    world.connect(0, 2);
    world.settle();
    for (device, other, address) in
        [(1, 2, "/ip4/10.0.0.2/tcp/4801"), (2, 1, "/ip4/10.0.0.1/tcp/4801")]
    {
        let key = world.devices[other].key;
        let addresses = world.engine(device).snapshot().addresses.clone();
        assert!(addresses.contains(&(Some(key), address.to_owned())), "{addresses:?}");
        let other = world.engine(other).snapshot().me.device;
        assert!(
            !world.engine(device).snapshot().last_heard.contains_key(&other),
            "told of, not heard"
        );
    }
    assert!(world.flying.is_empty(), "and then they fall silent");
}
