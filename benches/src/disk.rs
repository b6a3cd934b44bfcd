//! What reached the block device a folder is on, by everybody.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

/// Bytes in the sectors that the kernel counts, whatever the device has.
const SECTOR: u64 = 512;

/// A block device, by its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    major: u64,
    minor: u64,
}

impl Device {
    /// Returns the device a folder is on; none for one in memory or over a network.
    pub fn of(folder: &Path) -> Option<Self> {
        let device = Self::from_number(fs::metadata(folder).ok()?.dev());
        (device.major != 0).then_some(device)
    }

    /// Splits a device number as Linux puts it together.
    const fn from_number(number: u64) -> Self {
        Self {
            major: ((number >> 8) & 0xfff) | ((number >> 32) & 0xffff_f000),
            minor: (number & 0xff) | ((number >> 12) & 0xffff_ff00),
        }
    }

    /// Returns the bytes written to it so far.
    pub fn written(self) -> Option<u64> {
        self.find(&fs::read_to_string("/proc/diskstats").ok()?)
    }

    fn find(self, table: &str) -> Option<u64> {
        table.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            let numbers = (words.next()?.parse(), words.next()?.parse());
            if numbers != (Ok(self.major), Ok(self.minor)) {
                return None;
            }
            // Behind the name: reads, merged, sectors, ms, writes, merged, sectors.
            words.nth(7)?.parse::<u64>().ok().map(|sectors| sectors * SECTOR)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sectors_written_are_those_of_the_device_itself() {
        let table =
            " 254 0 vda 1 2 3 4 5 6 700 8 0\n 254 1 vda1 1 2 3 4 5 6 90 8 0\n 7 0 loop0 1\n";
        let device = |minor| Device { major: 254, minor };
        assert_eq!(device(0).find(table), Some(700 * 512));
        assert_eq!(device(1).find(table), Some(90 * 512));
        assert_eq!(device(2).find(table), None);
        assert_eq!(Device::from_number(254 << 8 | 1), device(1));
    }
}
