//! The rows of the table that `scripts/faults.sh` prints.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::Duration;

/// What came of one kind of fault.
#[derive(Debug, Default, Clone)]
pub(crate) struct Row {
    runs: u64,
    resumed: u64,
    reverted: u64,
    wrong_rows: u64,
    lost_events: u64,
}

impl Row {
    /// Counts a run that ended as it should or was taken back.
    pub(crate) fn count(&mut self, reverted: bool, wrong_rows: usize, lost_events: usize) {
        self.runs += 1;
        if reverted {
            self.reverted += 1;
        } else {
            self.resumed += 1;
        }
        self.wrong_rows += wrong_rows as u64;
        self.lost_events += lost_events as u64;
    }
}

impl std::ops::AddAssign for Row {
    fn add_assign(&mut self, other: Self) {
        self.runs += other.runs;
        self.resumed += other.resumed;
        self.reverted += other.reverted;
        self.wrong_rows += other.wrong_rows;
        self.lost_events += other.lost_events;
    }
}

/// Appends rows to the file `PGSHIFT_FAULTS_TABLE`, where there is one.
pub(crate) fn write(rows: &BTreeMap<&'static str, Row>) {
    let mut text = String::new();
    for (fault, row) in rows {
        let Row {
            runs,
            resumed,
            reverted,
            wrong_rows,
            lost_events,
        } = row;
        let line = format!("{fault}\t{runs}\t{resumed}\t{reverted}\t{wrong_rows}\t{lost_events}\n");
        text.push_str(&line);
    }
    eprint!("{text}");
    if let Some(path) = std::env::var_os("PGSHIFT_FAULTS_TABLE") {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .expect("a table");
        file.write_all(text.as_bytes()).expect("the table");
    }
}

/// How long the long forms may take: `PGSHIFT_FAULTS_MINUTES`, else five.
pub(crate) fn time() -> Duration {
    let minutes = std::env::var_os("PGSHIFT_FAULTS_MINUTES")
        .and_then(|minutes| minutes.to_str()?.parse().ok())
        .unwrap_or(5);
    Duration::from_mins(minutes)
}
