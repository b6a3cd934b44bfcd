//! Moments, as JSON has them.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, time::SystemTime};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{KnownFormat, ObjectBuilder, RefOr, SchemaFormat, Type, schema::Schema},
};

/// A moment in UTC to the millisecond: `2026-11-21T22:47:01.123Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(Timestamp);

impl Stamp {
    /// Returns this moment.
    pub fn now() -> Self {
        Self::from(SystemTime::now())
    }

    /// Returns the moment so long before this one, or the earliest there is.
    pub fn before(self, span: std::time::Duration) -> Self {
        let span = SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX);
        Self(self.0.checked_sub(span).unwrap_or(Timestamp::MIN))
    }

    /// Returns how long ago this was, zero if it lies ahead.
    pub fn age(self) -> std::time::Duration {
        std::time::Duration::try_from(Self::now().0.duration_since(self.0)).unwrap_or_default()
    }

    /// Returns the time of day where the user is, to the minute, with the day unless it is today.
    pub fn local(self) -> String {
        let zone = jiff::tz::TimeZone::system();
        let (then, now) = (self.0.to_zoned(zone.clone()), Timestamp::now().to_zoned(zone));
        let format = if then.date() == now.date() { "%H:%M" } else { "%Y-%m-%d %H:%M" };
        then.strftime(format).to_string()
    }
}

impl From<SystemTime> for Stamp {
    fn from(time: SystemTime) -> Self {
        let end = if time < SystemTime::UNIX_EPOCH { Timestamp::MIN } else { Timestamp::MAX };
        let exact = Timestamp::try_from(time).unwrap_or(end);
        Self(Timestamp::from_millisecond(exact.as_millisecond()).unwrap_or(exact))
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.0)
    }
}

impl std::str::FromStr for Stamp {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, jiff::Error> {
        text.parse().map(Self)
    }
}

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Stamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl PartialSchema for Stamp {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .into()
    }
}

impl ToSchema for Stamp {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_utc_with_milliseconds_and_round_trip() {
        let stamp =
            Stamp::from(SystemTime::UNIX_EPOCH + Duration::from_micros(1_795_300_000_120_999));
        assert_eq!(stamp.to_string(), "2026-11-21T22:26:40.120Z");
        let json = serde_json::to_string(&stamp).unwrap();
        assert_eq!(json, "\"2026-11-21T22:26:40.120Z\"");
        assert_eq!(serde_json::from_str::<Stamp>(&json).unwrap(), stamp);
        assert_eq!(Stamp::from(SystemTime::UNIX_EPOCH).to_string(), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn arithmetic_stops_at_the_ends_of_time() {
        assert_eq!(Stamp::now().before(Duration::MAX), Stamp(Timestamp::MIN));
        let ahead = Stamp::from(SystemTime::now() + Duration::from_secs(3600));
        assert_eq!(ahead.age(), Duration::ZERO);
    }
}
