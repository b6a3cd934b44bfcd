//! The passphrase, and what it costs to try one.

use std::fmt;

use zeroize::Zeroizing;

use crate::error::StoreError;
use crate::limits::{KDF_CEILING_KIB, KDF_FLOOR_KIB, KDF_PASSES_CEILING};

/// What the user types to unlock a store. Wiped from memory when dropped, never printed.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// Takes a passphrase as it is: every character counts, nothing is trimmed.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

/// What one try of a passphrase costs: argon2id with one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kdf {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over that memory.
    pub passes: u32,
}

impl Default for Kdf {
    /// 256 MiB, three passes: under a second on a laptop, and dear for whoever has only the disk.
    fn default() -> Self {
        Self { memory_kib: 256 * 1024, passes: 3 }
    }
}

impl Kdf {
    /// The cheapest derivation a store on disk may have: 64 MiB, three passes.
    pub const FLOOR: Self = Self { memory_kib: KDF_FLOOR_KIB, passes: 3 };

    /// For stores that never leave memory; [`crate::Store::create`] refuses it.
    pub(crate) const MEMORY_ONLY: Self = Self { memory_kib: 8, passes: 1 };

    pub(crate) fn check(self) -> Result<Self, StoreError> {
        let within = (KDF_FLOOR_KIB..=KDF_CEILING_KIB).contains(&self.memory_kib)
            && (1..=KDF_PASSES_CEILING).contains(&self.passes);
        if within {
            return Ok(self);
        }
        Err(StoreError::Derivation {
            memory_kib: self.memory_kib,
            passes: self.passes,
            floor_kib: KDF_FLOOR_KIB,
            ceiling_kib: KDF_CEILING_KIB,
            passes_ceiling: KDF_PASSES_CEILING,
        })
    }
}
