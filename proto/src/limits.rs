//! Every bound that both ends of a link must agree on, each with its reason.

/// Version byte of envelopes, Hello and Genesis.
pub const VERSION: u8 = 1;

/// Longest frame on a stream: the largest record (an operation with a join request) is under 8 KiB, Hello with many
/// heads and a join answer's chunks need more; 64 KiB also is the most one Noise message carries.
pub const FRAME_BYTES: usize = 64 * 1024;

/// Longest encoded envelope: gossip bodies above 16 KiB cost hundreds of megabytes of memory in libp2p.
pub const ENVELOPE_BYTES: usize = 16_384;

/// Exact lengths an envelope's ciphertext may have, by class. The largest leaves room for head, origin and framing
/// under [`ENVELOPE_BYTES`].
pub const CLASSES: [usize; 6] = [512, 1024, 2048, 4096, 8192, 16_000];

/// Lifetimes an envelope may ask for, by code, in seconds: one hour, one day, seven days, twenty-one days.
pub const LIVES_S: [u64; 4] = [3_600, 86_400, 7 * 86_400, 21 * 86_400];

/// Longest text of one message, bytes of UTF-8. Longer goes as a file.
pub const TEXT_BYTES: usize = 8 * 1024;

/// Longest name of a person, organisation or site, bytes of UTF-8: fits a line of a terminal.
pub const NAME_BYTES: usize = 64;

/// Longest encoded operation, header and body: one with a join request is about 2.6 kB.
pub const OP_BYTES: usize = 8 * 1024;

/// Most parents one operation may name: as many as there can be authors acting at once in a large incident.
pub const OP_PARENTS: usize = 64;

/// Most heads, epochs, certificates and addresses in one Hello.
pub const HELLO_ITEMS: usize = 256;

/// Longest multiaddr as text.
pub const ADDRESS_BYTES: usize = 256;

/// Most addresses kept of one peer: two transports on a handful of interfaces.
pub const ADDRESSES_PER_PEER: usize = 16;

/// Most ranges in one Ack, so that it fits the second-largest class.
pub const ACK_RANGES: usize = 256;

/// Most ranges in one Have, all entries together: about 40 kB, under one frame.
pub const HAVE_RANGES: usize = 2_048;

/// Most lives one Have speaks of: 64 devices, four lives each.
pub const HAVE_ENTRIES: usize = 256;

/// Devices one Nearby speaks of: as many as carry everything for one another.
pub const NEARBY: usize = 64;

/// Records a sender may be ahead of the receiver's credit, per stream.
pub const CREDIT_RECORDS: u64 = 1_024;

/// Bytes a sender may be ahead of the receiver's credit, per stream.
pub const CREDIT_BYTES: u64 = 1024 * 1024;

/// Longest invitation link, decoded.
pub const LINK_BYTES: usize = 16 * 1024;

/// How many bytes of ancestors an invitation link carries: most of them the admitter has, and people paste links.
pub const LINK_OPS_BYTES: usize = 4 * 1024;

/// Longest message of the join stream: the log of an organisation of 500, with room.
pub const JOIN_BYTES: usize = 16 * 1024 * 1024;

/// Longest join message a stranger may send before it is admitted: a request and the operations of its link.
pub const JOIN_ASK_BYTES: usize = 256 * 1024;

/// Longest text of an alert, bytes of UTF-8: it is read on a screen that somebody was woken by.
pub const ALERT_TEXT_BYTES: usize = 2_048;

/// Most words an alert offers as answers.
pub const ALERT_ANSWERS: usize = 8;

/// Longest answer to an alert, bytes of UTF-8: a word or a few.
pub const ALERT_ANSWER_BYTES: usize = 64;

/// Longest sealed alert: text, answers, ids and a signature are under 2.9 kB.
pub const ALERT_BYTES: usize = 4_096;

/// Longest signed payload of an acknowledgement: one with the longest answer has under 170 bytes.
pub const ALERT_ACK_BYTES: usize = 256;

/// Longest time an alert may ask for attention, seconds: seven days.
pub const ALERT_LIFE_S: u64 = 7 * 86_400;

/// Devices a person may have.
pub const DEVICES_PER_MEMBER: usize = 5;
