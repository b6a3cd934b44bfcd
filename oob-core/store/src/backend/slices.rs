//! Values cut into slices, so that no node of sled's is ever larger than its log takes.
//!
//! sled writes a node with its values, up to 20 of them, and puts one that is larger than a quarter of a segment (128 KiB) into a file of
//! its own, which it neither syncs nor misses before it is read: power cuts were seen to leave such a file empty, and the log ended
//! where it was named. So a value lies in slices of 4 KiB at most, under the key and under keys of its own behind it, and 20 of them
//! make no such node.
//!
//! ```text
//! key (24 bytes)                       the first 4 KiB
//! key | 1 u16 BE                       the next
//! ...
//! ```
//!
//! A value shorter than a slice has no others. Nothing but these keys is 26 bytes long.

use std::ops::RangeInclusive;

/// The longest slice.
pub(super) const SLICE_BYTES: usize = 4 << 10;

/// The keys under which a value can have slices.
const KEY_BYTES: usize = 24;

/// The longest value: more than four times what a record may hold.
const VALUE_BYTES: usize = SLICE_BYTES * (u16::MAX as usize / 16);

/// Says whether something can be kept under this key, as a value of so many bytes.
pub(super) fn is_sound(key: &[u8], value: Option<usize>) -> bool {
    let most = if key.len() == KEY_BYTES { VALUE_BYTES } else { SLICE_BYTES - 1 };
    !is_slice(key) && value.is_none_or(|len| len <= most)
}

/// Says whether this is the key of a slice that is not a value's first.
pub(super) fn is_slice(key: &[u8]) -> bool {
    key.len() == KEY_BYTES + 2
}

/// Says whether what lies under a value's own key can be its first slice only.
pub(super) fn may_go_on(key: &[u8], first: &[u8]) -> bool {
    key.len() == KEY_BYTES && first.len() == SLICE_BYTES
}

/// Returns the keys of all slices but the first.
pub(super) fn range(key: &[u8]) -> RangeInclusive<Vec<u8>> {
    name(key, 1)..=name(key, u16::MAX)
}

/// Returns the key of a slice that is not the first.
pub(super) fn name(key: &[u8], number: u16) -> Vec<u8> {
    [key, &number.to_be_bytes()].concat()
}

/// Cuts a value: what lies under its own key, and the other slices with their keys.
pub(super) fn cut<'a>(
    key: &'a [u8],
    value: &'a [u8],
) -> (&'a [u8], impl Iterator<Item = (Vec<u8>, &'a [u8])>) {
    let (first, rest) = value.split_at(value.len().min(SLICE_BYTES));
    let rest = (1..).zip(rest.chunks(SLICE_BYTES));
    (first, rest.map(|(number, slice)| (name(key, number), slice)))
}
