//! CPU time and memory of processes, from Linux's `/proc`; elsewhere there are none.

use std::fs;
use std::path::Path;

/// Clock ticks a second of `/proc/PID/stat`: 100 on every Linux (`USER_HZ`, proc(5)).
const TICKS: f64 = 100.0;

/// CPU seconds, user and system.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cpu {
    own: f64,
    /// Of children that have ended and were waited for.
    ended: f64,
}

/// Reads a line of `/proc/PID/stat` (proc(5), fields 14 to 17). The name of the program, in
/// parentheses, may have any character.
fn parse_stat(line: &str) -> Option<Cpu> {
    let (_, rest) = line.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // The first one here is field 3.
    let field = |n: usize| fields.get(n - 3)?.parse::<f64>().ok();
    Some(Cpu {
        own: (field(14)? + field(15)?) / TICKS,
        ended: (field(16)? + field(17)?) / TICKS,
    })
}

/// Reads the largest resident set, in bytes, from `/proc/PID/status`.
fn parse_peak(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn cpu(pid: u32) -> Option<Cpu> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// CPU seconds of a process.
pub(crate) fn of_process(pid: u32) -> Option<f64> {
    Some(cpu(pid)?.own)
}

/// The largest resident set of a process so far, in bytes.
pub(crate) fn peak_memory(pid: u32) -> Option<u64> {
    parse_peak(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

/// CPU seconds of a server: the postmaster, its children, and those that have ended.
pub(crate) fn of_server(data_dir: &Path) -> Option<f64> {
    let file = fs::read_to_string(data_dir.join("postmaster.pid")).ok()?;
    let pid: u32 = file.lines().next()?.trim().parse().ok()?;
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    let living: f64 = children
        .split_whitespace()
        .filter_map(|child| of_process(child.parse().ok()?))
        .sum();
    let postmaster = cpu(pid)?;
    Some(postmaster.own + postmaster.ended + living)
}

/// The machine in general words.
pub(crate) fn machine() -> String {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| parse_memory(&text));
    let load = fs::read_to_string("/proc/loadavg").ok();
    let load = load.as_deref().and_then(|l| l.split_whitespace().next());
    let memory = memory.map_or(String::new(), |gib| format!(", {gib:.0} GiB of memory"));
    let load = load.map_or(String::new(), |l| format!(", a load of {l} before the run"));
    format!(
        "{cpus} virtual CPUs ({}){memory}{load}",
        std::env::consts::ARCH
    )
}

fn parse_memory(meminfo: &str) -> Option<f64> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / f64::from(1 << 20))
}

#[cfg(test)]
#[allow(dead_code, unused_imports, reason = "run by tests/benches.rs")]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_whatever_the_program_is_called() {
        let line = "4242 (postgres: a) b) S 1 4242 4242 0 -1 4194560 1 2 3 4 150 50 1000 500 20 0";
        let wanted = Cpu {
            own: 2.0,
            ended: 15.0,
        };
        assert_eq!(parse_stat(line), Some(wanted));
        assert_eq!(parse_stat("4242 (x) S 1"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn memory_is_in_bytes() {
        assert_eq!(parse_peak("Name:\tx\nVmHWM:\t   2048 kB\n"), Some(2 << 20));
        assert_eq!(parse_peak("Name:\tx\n"), None);
        assert_eq!(parse_memory("MemTotal:  8388608 kB\n"), Some(8.0));
    }
}
