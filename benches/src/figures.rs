//! What is reported.

use serde::Serialize;
use std::time::Duration;

/// The figures of one run; what could not be measured is `null`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Figures {
    /// Half of all messages, one at a time, were told to the receiver within this time of being handed to the sender.
    pub p50_us: Option<u64>,
    /// As above, for 99 of 100.
    pub p99_us: Option<u64>,
    /// Messages received each second with 64 under way.
    pub messages_per_s: Option<u64>,
    /// CPU time of both daemons for 10,000 messages.
    pub cpu_s_per_10k: Option<f64>,
    /// TCP payload in both directions for one message with its receipt.
    pub wire_bytes_per_message: Option<u64>,
    /// Bytes both daemons had written to disk for one message.
    pub disk_bytes_per_message: Option<u64>,
    /// Memory of the larger daemon once both had met.
    pub rss_idle_kib: Option<u64>,
    /// The same at the end.
    pub rss_after_kib: Option<u64>,
    /// From the start of a daemon until it answers.
    pub ready_ms: Option<u64>,
    /// How much of that the passphrase takes, at the cheapest derivation.
    pub kdf_ms: Option<u64>,
    /// From a restarted daemon being ready until the other one has a link to it.
    pub discovery_ms: Option<u64>,
    /// Half a TCP round trip of a record over loopback.
    pub raw_tcp_p50_us: Option<u64>,
    /// A record appended and synced to the same disk.
    pub fsync_p50_us: Option<u64>,
    /// As `messages_per_s`, with 512 under way.
    pub messages_per_s_512: Option<u64>,
    /// The sender's share of `cpu_s_per_10k`.
    pub cpu_s_per_10k_sender: Option<f64>,
    /// The receiver's share.
    pub cpu_s_per_10k_receiver: Option<f64>,
    /// As `wire_bytes_per_message`, one at a time.
    pub wire_bytes_per_message_1: Option<u64>,
    /// As `disk_bytes_per_message`, one at a time.
    pub disk_bytes_per_message_1: Option<u64>,
    /// Bytes that reached the block device for one message, whoever wrote them, with 64 under way.
    pub device_bytes_per_message: Option<u64>,
    /// The same, one at a time.
    pub device_bytes_per_message_1: Option<u64>,
    /// Percent of one core that the busier daemon took while nobody said anything.
    pub idle_cpu_percent: Option<f64>,
    /// How many received in the fan-out; the fields that follow are of it.
    pub peers: Option<u64>,
    /// Half of the texts to all of them were told to the last within this time.
    pub fan_out_last_p50_us: Option<u64>,
    /// As above, for 99 of 100.
    pub fan_out_last_p99_us: Option<u64>,
    /// Texts to all of them that were told to the last in a second, with 8 under way.
    pub fan_out_per_s: Option<f64>,
    /// The same, each told to the last before the next is sent.
    pub fan_out_per_s_1: Option<f64>,
}

impl Figures {
    /// Writes them as a table for people.
    pub fn to_table(&self) -> String {
        let row = |name: &str, value: Option<String>| {
            format!("{name:<28} {}", value.unwrap_or_else(|| "not measured".into()))
        };
        let whole = |value: Option<u64>| value.map(|value| value.to_string());
        let part = |value: Option<f64>| value.map(|value| format!("{value:.3}"));
        [
            row("p50_us", whole(self.p50_us)),
            row("p99_us", whole(self.p99_us)),
            row("messages_per_s", whole(self.messages_per_s)),
            row("cpu_s_per_10k", part(self.cpu_s_per_10k)),
            row("wire_bytes_per_message", whole(self.wire_bytes_per_message)),
            row("disk_bytes_per_message", whole(self.disk_bytes_per_message)),
            row("rss_idle_kib", whole(self.rss_idle_kib)),
            row("rss_after_kib", whole(self.rss_after_kib)),
            row("ready_ms", whole(self.ready_ms)),
            row("kdf_ms", whole(self.kdf_ms)),
            row("discovery_ms", whole(self.discovery_ms)),
            row("raw_tcp_p50_us", whole(self.raw_tcp_p50_us)),
            row("fsync_p50_us", whole(self.fsync_p50_us)),
            row("messages_per_s_512", whole(self.messages_per_s_512)),
            row("cpu_s_per_10k_sender", part(self.cpu_s_per_10k_sender)),
            row("cpu_s_per_10k_receiver", part(self.cpu_s_per_10k_receiver)),
            row("wire_bytes_per_message_1", whole(self.wire_bytes_per_message_1)),
            row("disk_bytes_per_message_1", whole(self.disk_bytes_per_message_1)),
            row("device_bytes_per_message", whole(self.device_bytes_per_message)),
            row("device_bytes_per_message_1", whole(self.device_bytes_per_message_1)),
            row("idle_cpu_percent", part(self.idle_cpu_percent)),
            row("peers", whole(self.peers)),
            row("fan_out_last_p50_us", whole(self.fan_out_last_p50_us)),
            row("fan_out_last_p99_us", whole(self.fan_out_last_p99_us)),
            row("fan_out_per_s", part(self.fan_out_per_s)),
            row("fan_out_per_s_1", part(self.fan_out_per_s_1)),
        ]
        .join("\n")
    }
}

/// Times in order.
#[derive(Debug, Clone)]
pub struct Sorted(Vec<Duration>);

impl Sorted {
    /// Sorts them.
    pub fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// Returns the time, in microseconds, that so many of a hundred stay within.
    pub fn percentile_us(&self, percent: usize) -> Option<u64> {
        self.percentile(percent).map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
    }

    /// The same in nanoseconds.
    pub fn percentile_ns(&self, percent: usize) -> Option<u64> {
        self.percentile(percent).map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns how many follow one another in a second.
    pub fn per_s(&self) -> Option<f64> {
        let all: Duration = self.0.iter().sum();
        (!all.is_zero()).then(|| self.0.len() as f64 / all.as_secs_f64())
    }

    fn percentile(&self, percent: usize) -> Option<Duration> {
        let last = self.0.len().checked_sub(1)?;
        let place = self.0.len().saturating_mul(percent).div_ceil(100).saturating_sub(1).min(last);
        self.0.get(place).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sample_itself() {
        let times = Sorted::new((1..=100).rev().map(Duration::from_micros).collect());
        assert_eq!(
            (times.percentile_us(50), times.percentile_us(99), times.percentile_us(100)),
            (Some(50), Some(99), Some(100))
        );
        assert_eq!(Sorted::new(Vec::new()).percentile_us(50), None);
        assert_eq!(Sorted::new(vec![Duration::from_micros(7)]).percentile_us(99), Some(7));
    }

    #[test]
    fn what_is_absent_is_null_and_every_field_is_there() {
        let json = serde_json::to_value(Figures::default()).unwrap();
        let fields = json.as_object().unwrap();
        assert_eq!(fields.len(), 26);
        assert!(fields.values().all(serde_json::Value::is_null));
    }
}
