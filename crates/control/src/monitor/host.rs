//! The host as a whole: processors, memory, load, disks, network.

use super::files::{Kept, field, lines, number, words};
use super::{Values, series};
use crate::store::{Samples, SeriesId};

const SECTOR: u64 = 512;

/// Samples the host.
pub(super) struct HostSampler {
    stat: Option<Kept>,
    meminfo: Option<Kept>,
    loadavg: Option<Kept>,
    diskstats: Option<Kept>,
    net: Option<Kept>,
    disks: Vec<Vec<u8>>,
    ids: Ids,
}

struct Ids {
    cpu: SeriesId,
    memory: SeriesId,
    load: SeriesId,
    disk_read: SeriesId,
    disk_write: SeriesId,
    net_in: SeriesId,
    net_out: SeriesId,
}

impl HostSampler {
    pub(super) fn new(samples: &Samples) -> HostSampler {
        let counter = |name, unit| series(samples, name, unit, Some(1.0));
        let gauge = |name, unit| series(samples, name, unit, None);
        HostSampler {
            stat: Kept::open("/proc/stat"),
            meminfo: Kept::open("/proc/meminfo"),
            loadavg: Kept::open("/proc/loadavg"),
            diskstats: Kept::open("/proc/diskstats"),
            net: Kept::open("/proc/net/dev"),
            disks: whole_disks(),
            ids: Ids {
                cpu: counter("host.cpu", "%"),
                memory: gauge("host.memory_available", "bytes"),
                load: gauge("host.load", ""),
                disk_read: counter("host.disk_read", "bytes/s"),
                disk_write: counter("host.disk_write", "bytes/s"),
                net_in: counter("host.network_in", "bytes/s"),
                net_out: counter("host.network_out", "bytes/s"),
            },
        }
    }

    pub(super) fn sample(&mut self, values: &mut Values) {
        let busy = self.stat.as_mut().and_then(Kept::read).and_then(busy_ticks);
        values.extend(busy.map(|ticks| (self.ids.cpu, ticks as f64)));
        let memory = self.meminfo.as_mut().and_then(Kept::read);
        let memory = memory.and_then(|text| field(text, b"MemAvailable:"));
        values.extend(memory.map(|kib| (self.ids.memory, (kib * 1024) as f64)));
        let load = self
            .loadavg
            .as_mut()
            .and_then(Kept::read)
            .and_then(|text| std::str::from_utf8(words(text).next()?).ok()?.parse().ok());
        values.extend(load.map(|load: f64| (self.ids.load, load)));
        if let Some(text) = self.diskstats.as_mut().and_then(Kept::read) {
            let (read, write) = disk_bytes(text, &self.disks);
            values.push((self.ids.disk_read, read as f64));
            values.push((self.ids.disk_write, write as f64));
        }
        if let Some(text) = self.net.as_mut().and_then(Kept::read) {
            let (inward, outward) = net_bytes(text);
            values.push((self.ids.net_in, inward as f64));
            values.push((self.ids.net_out, outward as f64));
        }
    }
}

/// Disks without their partitions, and without what only mirrors memory or a file.
fn whole_disks() -> Vec<Vec<u8>> {
    let Ok(entries) = std::fs::read_dir("/sys/block") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| Some(entry.ok()?.file_name().into_encoded_bytes()))
        .filter(|name| {
            ![&b"loop"[..], b"ram", b"zram", b"dm-", b"md"]
                .iter()
                .any(|p| name.starts_with(p))
        })
        .collect()
}

/// user, nice, system, irq, softirq, steal; idle and iowait are not busy.
fn busy_ticks(text: &[u8]) -> Option<u64> {
    let line = lines(text).next()?.strip_prefix(b"cpu ")?;
    Some(
        [0, 1, 2, 5, 6, 7]
            .iter()
            .filter_map(|index| number(line, *index))
            .sum(),
    )
}

fn disk_bytes(text: &[u8], disks: &[Vec<u8>]) -> (u64, u64) {
    let (mut read, mut write) = (0, 0);
    for line in lines(text) {
        if words(line)
            .nth(2)
            .is_some_and(|name| disks.iter().any(|disk| disk == name))
        {
            read += number(line, 5).unwrap_or(0) * SECTOR;
            write += number(line, 9).unwrap_or(0) * SECTOR;
        }
    }
    (read, write)
}

/// All interfaces but the loopback.
fn net_bytes(text: &[u8]) -> (u64, u64) {
    let (mut inward, mut outward) = (0, 0);
    for line in lines(text) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        if words(&line[..colon]).next() != Some(b"lo") {
            inward += number(&line[colon + 1..], 0).unwrap_or(0);
            outward += number(&line[colon + 1..], 8).unwrap_or(0);
        }
    }
    (inward, outward)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_tables_are_summed() {
        assert_eq!(
            busy_ticks(b"cpu  10 1 20 999 50 3 4 5 0 0\ncpu0 1\n"),
            Some(43)
        );
        let disks = [b"vda".to_vec()];
        let table = b" 254 0 vda 1 2 8 4 5 6 16 8 0\n 254 1 vda1 1 2 99 4 5 6 99 8 0\n";
        assert_eq!(disk_bytes(table, &disks), (8 * 512, 16 * 512));
        let net =
            b"Inter-|\n face |\n    lo: 9 0 0 0 0 0 0 0 9 0\n  eth0:100 1 0 0 0 0 0 0 200 2\n";
        assert_eq!(net_bytes(net), (100, 200));
    }
}
