//! What the hash chain of the log tells: a decision over what was read of it.
//!
//! Every entry's hash covers the entry and the hash before it, and the head keeps the newest number
//! and hash apart from the entries. Who rewrites the whole chain *and* the head leaves no trace in
//! the database: only an entry that was noted elsewhere shows it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An entry by number and hash: the end of the log, or one that somebody noted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The entry's number; 0 where there is none yet.
    pub seq: i64,
    /// Its hash: 64 hexadecimal digits.
    pub hash: String,
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

impl FromStr for Head {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let head = text.split_once(':').and_then(|(seq, hash)| {
            let seq = seq.parse().ok().filter(|seq| *seq > 0)?;
            let hash = hash.to_ascii_lowercase();
            let whole = hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
            whole.then_some(Self { seq, hash })
        });
        head.ok_or_else(|| "an entry is NUMBER:HASH, as `log --verify` prints it".to_owned())
    }
}

/// An entry that does not simply follow the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Odd {
    /// Its number.
    pub seq: i64,
    /// The number of the entry before it, if there is one.
    pub before: Option<i64>,
    /// Its hash is that of its content and of the hash before it.
    pub follows: bool,
}

/// What was read of the chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// Entries.
    pub entries: i64,
    /// Those that do not follow, in order.
    pub odd: Vec<Odd>,
    /// The last entry.
    pub last: Option<Head>,
    /// What the head says: `None` where the state schema has none yet, `Some(None)` where its row
    /// is gone.
    pub head: Option<Option<Head>>,
}

/// The log as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Entries.
    pub entries: i64,
    /// The last one, to be noted elsewhere.
    pub head: Option<Head>,
}

/// What is wrong with the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    /// This entry is not what was written (or the hash of the one before is not).
    Edited {
        /// Its number.
        seq: i64,
    },
    /// These entries are gone, both ends included.
    Missing {
        /// The first number.
        from: i64,
        /// The last number.
        to: i64,
    },
    /// These entries were put after the head, both ends included.
    Added {
        /// The first number.
        from: i64,
        /// The last number.
        to: i64,
    },
    /// The head's row is gone: entries cut off the end would not be missed.
    NoHead,
    /// This entry is not the one that was noted elsewhere: the log was written anew.
    Rewritten {
        /// Its number.
        seq: i64,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = |from: i64, to: i64| {
            if from == to {
                format!("entry {from}")
            } else {
                format!("entries {from} to {to}")
            }
        };
        match *self {
            Self::Edited { seq } => write!(f, "entry {seq} was edited"),
            Self::Missing { from, to } => write!(f, "{} missing", range(from, to)),
            Self::Added { from, to } => write!(f, "{} put after the end", range(from, to)),
            Self::NoHead => f.write_str("the head of the log is gone"),
            Self::Rewritten { seq } => write!(f, "entry {seq} is not the one that was noted"),
        }
    }
}

/// Judges a chain; `noted` is an entry noted elsewhere with the hash that is found at its number.
pub fn judge(chain: &Chain, noted: Option<(&Head, Option<&str>)>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for odd in &chain.odd {
        let expected = odd.before.map_or(1, |before| before + 1);
        if odd.seq > expected {
            // Whether it was edited too cannot be told without the hash before it.
            faults.push(Fault::Missing {
                from: expected,
                to: odd.seq - 1,
            });
        } else if !odd.follows || odd.seq < expected {
            faults.push(Fault::Edited { seq: odd.seq });
        }
    }
    let (last, last_hash) = chain
        .last
        .as_ref()
        .map_or((0, ""), |last| (last.seq, last.hash.as_str()));
    match &chain.head {
        None => {}
        Some(None) => faults.push(Fault::NoHead),
        Some(Some(head)) if head.seq > last => faults.push(Fault::Missing {
            from: last + 1,
            to: head.seq,
        }),
        Some(Some(head)) if head.seq < last => faults.push(Fault::Added {
            from: head.seq + 1,
            to: last,
        }),
        Some(Some(head)) => {
            let fault = Fault::Edited { seq: last };
            if head.hash != last_hash && !faults.contains(&fault) {
                faults.push(fault);
            }
        }
    }
    if let Some((noted, found)) = noted {
        let gone = |fault: &Fault| matches!(fault, Fault::Missing { from, to } if (*from..=*to).contains(&noted.seq));
        match found {
            Some(found) if found == noted.hash => {}
            None if faults.iter().any(gone) => {}
            Some(_) => faults.push(Fault::Rewritten { seq: noted.seq }),
            None => faults.push(Fault::Missing {
                from: last + 1,
                to: noted.seq,
            }),
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(seq: i64, digit: char) -> Head {
        Head {
            seq,
            hash: digit.to_string().repeat(64),
        }
    }

    #[allow(
        clippy::option_option,
        reason = "as in the struct: no head table, no head, a head"
    )]
    fn chain(odd: &[(i64, Option<i64>, bool)], last: i64, kept: Option<Option<Head>>) -> Chain {
        Chain {
            entries: last,
            odd: odd
                .iter()
                .map(|&(seq, before, follows)| Odd {
                    seq,
                    before,
                    follows,
                })
                .collect(),
            last: (last > 0).then(|| head(last, 'a')),
            head: kept,
        }
    }

    #[test]
    fn each_fault_is_named_by_number() {
        let whole = Some(Some(head(9, 'a')));
        assert_eq!(judge(&chain(&[], 9, whole.clone()), None), []);
        let empty = Some(Some(Head {
            seq: 0,
            hash: String::new(),
        }));
        assert_eq!(judge(&chain(&[], 0, empty), None), []);
        assert_eq!(
            judge(&chain(&[], 0, Some(Some(head(0, 'a')))), None),
            [Fault::Edited { seq: 0 }]
        );
        let edited = chain(&[(4, Some(3), false)], 9, whole.clone());
        assert_eq!(judge(&edited, None), [Fault::Edited { seq: 4 }]);
        let gaps = chain(&[(3, None, false), (7, Some(4), false)], 9, whole.clone());
        let missing = |from, to| Fault::Missing { from, to };
        assert_eq!(judge(&gaps, None), [missing(1, 2), missing(5, 6)]);
        assert_eq!(judge(&chain(&[], 7, whole.clone()), None), [missing(8, 9)]);
        assert_eq!(judge(&chain(&[], 0, whole), None), [missing(1, 9)]);
        let older = Some(Some(head(8, 'a')));
        assert_eq!(
            judge(&chain(&[], 9, older), None),
            [Fault::Added { from: 9, to: 9 }]
        );
        assert_eq!(judge(&chain(&[], 9, Some(None)), None), [Fault::NoHead]);
        let last = chain(&[], 9, Some(Some(head(9, 'b'))));
        assert_eq!(judge(&last, None), [Fault::Edited { seq: 9 }]);
        let texts: Vec<_> = [missing(5, 6), missing(5, 5)].map(|f| f.to_string()).into();
        assert_eq!(texts, ["entries 5 to 6 missing", "entry 5 missing"]);
    }

    #[test]
    fn a_noted_entry_shows_what_the_database_cannot() {
        let noted = head(5, 'c');
        let whole = chain(&[], 9, Some(Some(head(9, 'a'))));
        let found = |hash| judge(&whole, Some((&noted, hash)));
        assert_eq!(found(Some(noted.hash.as_str())), []);
        assert_eq!(found(Some("other")), [Fault::Rewritten { seq: 5 }]);
        // The end was cut off, and the head set back.
        let cut = chain(&[], 3, Some(Some(head(3, 'a'))));
        assert_eq!(
            judge(&cut, Some((&noted, None))),
            [Fault::Missing { from: 4, to: 5 }]
        );
        // The head tells it already.
        let cut = chain(&[], 3, Some(Some(head(9, 'a'))));
        assert_eq!(
            judge(&cut, Some((&noted, None))),
            [Fault::Missing { from: 4, to: 9 }]
        );
    }

    #[test]
    fn an_entry_is_read_as_it_is_printed() {
        let entry = head(82, 'f');
        assert_eq!(entry.to_string().parse(), Ok(entry));
        for wrong in ["", "82", "0:ff", "x:ff", "82:ff", "-1:ff"] {
            assert!(wrong.parse::<Head>().is_err(), "{wrong}");
        }
    }
}
