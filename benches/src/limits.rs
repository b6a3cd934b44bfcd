//! What the machine can do at best: nobody who sends over TCP and stores on disk is faster than this.

use crate::{RECORD_BYTES, Sorted};
use std::{
    fs::OpenOptions,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// Rounds of each: enough for a steady median, short enough to sit beside the real measurement.
const ROUNDS: usize = 1_000;

/// Longest a measurement may take, on a disk that is slow to sync.
const LIMIT: Duration = Duration::from_secs(3);

/// Measures half a round trip of one record over loopback.
///
/// # Errors
/// Loopback cannot be used.
pub fn raw_tcp_p50() -> io::Result<Option<u64>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let echo = thread::spawn(move || -> io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut record = [0; RECORD_BYTES];
        while stream.read_exact(&mut record).is_ok() {
            stream.write_all(&record)?;
        }
        Ok(())
    });
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut record = [7; RECORD_BYTES];
    let times = rounds(|| {
        stream.write_all(&record)?;
        stream.read_exact(&mut record)
    })?;
    drop(stream);
    let _ended = echo.join();
    Ok(Sorted::new(times.into_iter().map(|time| time / 2).collect()).percentile_us(50))
}

/// Measures one record appended to a file in this folder and synced.
///
/// # Errors
/// The folder cannot be written.
pub fn fsync_p50(folder: &Path) -> io::Result<Option<u64>> {
    let path = folder.join("fsync");
    let mut file = OpenOptions::new().append(true).create_new(true).open(&path)?;
    let record = [7; RECORD_BYTES];
    let times = rounds(|| {
        file.write_all(&record)?;
        file.sync_data()
    });
    std::fs::remove_file(&path)?;
    Ok(Sorted::new(times?).percentile_us(50))
}

fn rounds(mut round: impl FnMut() -> io::Result<()>) -> io::Result<Vec<Duration>> {
    let began = Instant::now();
    let mut times = Vec::with_capacity(ROUNDS);
    while times.len() < ROUNDS && began.elapsed() < LIMIT {
        let start = Instant::now();
        round()?;
        times.push(start.elapsed());
    }
    Ok(times)
}
