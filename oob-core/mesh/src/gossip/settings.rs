//! Every setting of gossipsub that is ours.

use libp2p::gossipsub::{
    Config, ConfigBuilder, ConfigBuilderError, Message, MessageId, ValidationMode,
};
use std::time::Duration;

use crate::event::GossipId;

/// How often the router looks after its neighbours, and how long after its start for the first time: 700 ms heal a hole
/// in the mesh within the second that people notice.
const HEARTBEAT: Duration = Duration::from_millis(700);
const FIRST_HEARTBEAT: Duration = Duration::from_millis(100);

/// Neighbours that messages are passed on to: fewer than `LOW` gets more, more than `HIGH` gets fewer, `WANTED` of them,
/// `OUTBOUND` of which we dialled ourselves. These are the figures for up to 20 nodes.
const LOW: usize = 2;
const WANTED: usize = 4;
const HIGH: usize = 8;
const OUTBOUND: usize = 1;

/// Longest message with everything around it: the longest record has 16 KiB, the rest is room.
const TRANSMIT: usize = 32 * 1024;

/// Messages that may wait for one neighbour. What waits longer than the times below is dropped, and sync brings it.
const QUEUE: usize = 512;
const PUBLISH_WAITS: Duration = Duration::from_secs(2);
const FORWARD_WAITS: Duration = Duration::from_secs(1);

/// From this length on neighbours are told that a message need not be sent again.
const DONT_WANT: usize = 512;

/// Heartbeats that messages are kept for those who ask, and of how many of them the messages are named to others.
const HISTORY: usize = 12;
const HISTORY_NAMED: usize = 6;

/// How long an id is remembered, so that nothing goes round twice.
const REMEMBERED: Duration = Duration::from_secs(600);

/// How long a neighbour that was turned away stays away, and one that left the topic.
const PRUNED: Duration = Duration::from_secs(10);
const UNSUBSCRIBED: Duration = Duration::from_secs(2);

/// Messages in one packet of gossipsub: ours sends one, and the ids of all that come are remembered for ten minutes.
const PER_PACKET: usize = 1;

/// Builds the settings.
pub(super) fn config() -> Result<Config, ConfigBuilderError> {
    ConfigBuilder::default()
        .heartbeat_interval(HEARTBEAT)
        .heartbeat_initial_delay(FIRST_HEARTBEAT)
        .mesh_n_low(LOW)
        .mesh_n(WANTED)
        .mesh_n_high(HIGH)
        .mesh_outbound_min(OUTBOUND)
        .flood_publish(true)
        .max_transmit_size(TRANSMIT)
        .max_publish_messages(PER_PACKET)
        .connection_handler_queue_len(QUEUE)
        .publish_queue_duration(PUBLISH_WAITS)
        .forward_queue_duration(FORWARD_WAITS)
        .idontwant_message_size_threshold(DONT_WANT)
        .idontwant_on_publish(false)
        .history_length(HISTORY)
        .history_gossip(HISTORY_NAMED)
        .duplicate_cache_time(REMEMBERED)
        .prune_backoff(PRUNED)
        .unsubscribe_backoff(UNSUBSCRIBED)
        .validate_messages()
        .validation_mode(ValidationMode::Anonymous)
        .message_id_fn(|message: &Message| MessageId::from(id_of(&message.data).0.to_vec()))
        .build()
}

/// Returns the id of a message: it depends on nothing but its bytes. The id that gossipsub would make of source and
/// number is the same for all anonymous messages, and then all but the first vanish.
pub(crate) fn id_of(data: &[u8]) -> GossipId {
    let mut id = [0; 20];
    id.iter_mut().zip(blake3::hash(data).as_bytes()).for_each(|(to, from)| *to = *from);
    GossipId(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::gossipsub::TopicHash;

    /// The table of the design, line by line.
    #[test]
    fn the_settings_are_those_of_the_table() {
        let config = config().unwrap();
        assert_eq!(config.heartbeat_interval(), Duration::from_millis(700));
        assert_eq!(config.heartbeat_initial_delay(), Duration::from_millis(100));
        let topic = TopicHash::from_raw("any");
        let neighbours = (
            config.mesh_n_low_for_topic(&topic),
            config.mesh_n_for_topic(&topic),
            config.mesh_n_high_for_topic(&topic),
            config.mesh_outbound_min_for_topic(&topic),
        );
        assert_eq!(neighbours, (2, 4, 8, 1));
        assert!(config.flood_publish());
        assert_eq!(config.idontwant_message_size_threshold(), 512);
        assert!(!config.idontwant_on_publish());
        assert_eq!(config.max_transmit_size(), 32 * 1024);
        assert_eq!(config.connection_handler_queue_len(), 512);
        assert!(config.validate_messages());
        assert!(matches!(config.validation_mode(), ValidationMode::Anonymous));
        assert_eq!((config.history_length(), config.history_gossip()), (12, 6));
        assert_eq!(config.duplicate_cache_time(), Duration::from_secs(600));
        assert_eq!(config.prune_backoff(), Duration::from_secs(10));
        assert_eq!(config.unsubscribe_backoff(), Duration::from_secs(2));
        assert_eq!(config.publish_queue_duration(), Duration::from_secs(2));
        assert_eq!(config.forward_queue_duration(), Duration::from_secs(1));
        assert_eq!(config.max_publish_messages(), 1);
        assert!(!config.do_px());
    }

    /// With gossipsub's own ids these two would be one and the same.
    #[test]
    fn two_anonymous_messages_have_two_ids_and_one_has_the_same_again() {
        let config = config().unwrap();
        let message = |data: &[u8]| Message {
            source: None,
            data: data.to_vec(),
            sequence_number: None,
            topic: TopicHash::from_raw("any"),
        };
        let [one, other] = [b"one", b"two"].map(|data| config.message_id(&message(data)));
        assert_ne!(one, other);
        assert_eq!(one, config.message_id(&message(b"one")));
        assert_eq!(one.0, blake3::hash(b"one").as_bytes()[..20]);
    }
}
