//! Bags: the named, ordered ranges that records live in.

/// The kind of thing a bag holds. The numbers belong to the caller and are stored for ever: never reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Area(pub u8);

/// Which keys a bag is sealed under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum KeyClass {
    /// Gone from memory while the store is locked.
    Home,
    /// Kept in memory while the store is locked, so that mail is still kept and carried.
    Carry,
}

/// The name of one ordered range of records; a record is a bag and a sequence number.
///
/// On disk the name is a keyed hash, so that a bag named by a conversation or a person tells nothing about either.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bag {
    pub(crate) class: KeyClass,
    pub(crate) label: Vec<u8>,
}

impl Bag {
    /// Names a bag for what only the unlocked device may read.
    pub fn new(area: Area, id: &[u8]) -> Self {
        Self::of(KeyClass::Home, area, id)
    }

    /// Names a bag for what a locked device still has to keep and carry: envelopes, certificates, header keys.
    pub fn carry(area: Area, id: &[u8]) -> Self {
        Self::of(KeyClass::Carry, area, id)
    }

    fn of(class: KeyClass, area: Area, id: &[u8]) -> Self {
        let mut label = Vec::with_capacity(1 + id.len());
        label.push(area.0);
        label.extend_from_slice(id);
        Self { class, label }
    }
}

/// Which end of a bag a scan starts at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// From the lowest sequence number up.
    Ascending,
    /// From the highest sequence number down.
    Descending,
}
