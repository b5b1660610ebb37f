//! The life of a migration as a pure state machine.
//!
//! A crash or a stop changes no state: the state says what the last *committed* fact is, and a
//! run that holds no live lease is resumed from there.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::plan::Phase;

/// Where a migration stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Not recorded in the database.
    Pending,
    /// On the way to READY.
    Applying,
    /// Expanded, backfilled and verified: deploy the new application version, then contract.
    Ready,
    /// On the way to complete.
    Contracting,
    /// Nothing is left to do but purge; it can still be reverted.
    Complete,
    /// Being taken back.
    Reverting,
    /// Taken back; it can be applied again.
    Reverted,
    /// Soft-dropped objects are being dropped for good.
    Purging,
    /// Final.
    Purged,
    /// Marked as applied without running (`pgshift baseline`). Final.
    Baselined,
}

impl State {
    /// All states.
    pub const ALL: [Self; 10] = [
        Self::Pending,
        Self::Applying,
        Self::Ready,
        Self::Contracting,
        Self::Complete,
        Self::Reverting,
        Self::Reverted,
        Self::Purging,
        Self::Purged,
        Self::Baselined,
    ];

    /// The name in CLI, JSON and state tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Applying => "applying",
            Self::Ready => "ready",
            Self::Contracting => "contracting",
            Self::Complete => "complete",
            Self::Reverting => "reverting",
            Self::Reverted => "reverted",
            Self::Purging => "purging",
            Self::Purged => "purged",
            Self::Baselined => "baselined",
        }
    }

    /// A run is under way or waits to be resumed.
    pub fn in_motion(self) -> bool {
        matches!(
            self,
            Self::Applying | Self::Contracting | Self::Reverting | Self::Purging
        )
    }

    /// The file has been applied at least as far as it began: its content must not change.
    pub fn is_applied(self) -> bool {
        !matches!(self, Self::Pending | Self::Reverted)
    }

    /// Its tables are between expand and the end: no other migration may open them.
    pub fn is_open(self) -> bool {
        self.in_motion() || self == Self::Ready
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|state| state.name() == s)
            .ok_or_else(|| format!("unknown migration state {s:?}"))
    }
}

/// What a run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunKind {
    /// To READY.
    Apply,
    /// From READY to complete.
    Contract,
    /// Back to before the migration.
    Revert,
    /// Back to READY: takes back the contract only.
    Uncontract,
    /// Drops for good.
    Purge,
}

impl RunKind {
    /// All kinds.
    pub const ALL: [Self; 5] = [
        Self::Apply,
        Self::Contract,
        Self::Revert,
        Self::Uncontract,
        Self::Purge,
    ];

    /// The name in CLI, JSON and state tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Contract => "contract",
            Self::Revert => "revert",
            Self::Uncontract => "uncontract",
            Self::Purge => "purge",
        }
    }

    /// The phases of the plan that it runs, for kinds that run a part of the plan.
    pub fn phases(self) -> &'static [Phase] {
        match self {
            Self::Apply => &[
                Phase::Expand,
                Phase::Sync,
                Phase::Backfill,
                Phase::Validate,
                Phase::Verify,
            ],
            Self::Contract => &[Phase::Contract],
            Self::Purge => &[Phase::Purge],
            Self::Revert | Self::Uncontract => &[Phase::Revert],
        }
    }
}

impl fmt::Display for RunKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for RunKind {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == s)
            .ok_or_else(|| format!("unknown kind of run {s:?}"))
    }
}

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// Under way, or waiting to be resumed.
    Running,
    /// It did its last step.
    Done,
    /// A way back took its place.
    Abandoned,
    /// A way back that had changed nothing, and that nobody wanted any more.
    CalledOff,
}

impl RunState {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Running, Self::Done, Self::Abandoned, Self::CalledOff];

    /// The name in the state table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Abandoned => "abandoned",
            Self::CalledOff => "called_off",
        }
    }
}

impl FromStr for RunState {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|state| state.name() == s)
            .ok_or_else(|| format!("unknown state of a run {s:?}"))
    }
}

/// What happens to a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// A new run of this kind is asked for.
    Start(RunKind),
    /// The run of this kind did its last step; `more` tells whether a contract part is left.
    Finish {
        /// The run's kind.
        kind: RunKind,
        /// The plan has contract steps that are not done.
        more: bool,
    },
    /// `pgshift revert --call-off`: a way back that has changed nothing is given up.
    CallOff {
        /// The run before it, which it was to take back.
        kind: RunKind,
        /// That one did its last step.
        whole: bool,
        /// The plan has a contract part.
        more: bool,
    },
    /// `pgshift baseline`.
    Baseline,
}

/// Why an input is not possible in a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotPossible {
    /// What is wrong.
    pub why: String,
    /// What to do instead.
    pub instead: String,
}

/// The next state.
///
/// # Errors
/// [`NotPossible`] says why the input is refused in this state and what to do instead.
pub fn transition(state: State, input: Input) -> Result<State, NotPossible> {
    use RunKind::{Apply, Contract, Purge, Revert, Uncontract};
    use State as S;
    match (state, input) {
        (S::Pending | S::Reverted, Input::Start(Apply)) => Ok(S::Applying),
        (
            S::Applying,
            Input::Finish {
                kind: Apply,
                more: true,
            },
        )
        | (
            S::Reverting,
            Input::Finish {
                kind: Uncontract, ..
            },
        ) => Ok(S::Ready),
        (
            S::Applying,
            Input::Finish {
                kind: Apply,
                more: false,
            },
        )
        | (S::Contracting, Input::Finish { kind: Contract, .. }) => Ok(S::Complete),
        (S::Ready, Input::Start(Contract)) => Ok(S::Contracting),
        (S::Applying | S::Ready | S::Contracting | S::Complete, Input::Start(Revert))
        | (S::Contracting | S::Complete, Input::Start(Uncontract)) => Ok(S::Reverting),
        (S::Reverting, Input::Finish { kind: Revert, .. }) => Ok(S::Reverted),
        (S::Reverting, Input::CallOff { kind, whole, more }) => {
            let before = match kind {
                Apply => S::Applying,
                Contract => S::Contracting,
                Revert | Uncontract | Purge => return Err(refusal(state, input)),
            };
            if whole {
                transition(before, Input::Finish { kind, more })
            } else {
                Ok(before)
            }
        }
        (S::Complete, Input::Start(Purge)) => Ok(S::Purging),
        (S::Purging, Input::Finish { kind: Purge, .. }) => Ok(S::Purged),
        (S::Pending, Input::Baseline) => Ok(S::Baselined),
        (state, input) => Err(refusal(state, input)),
    }
}

fn refusal(state: State, input: Input) -> NotPossible {
    use State as S;
    let wanted = match input {
        Input::Start(kind) => format!("{kind} cannot start"),
        Input::Finish { kind, .. } => format!("{kind} cannot finish"),
        Input::CallOff { .. } => "there is no way back to call off".to_owned(),
        Input::Baseline => "it cannot be baselined".to_owned(),
    };
    let instead = match state {
        S::Pending | S::Reverted => "`pgshift apply` it first",
        S::Applying | S::Contracting | S::Reverting | S::Purging => {
            "`pgshift resume` finishes what is under way"
        }
        S::Ready => "`pgshift contract` finishes it, `pgshift revert` takes it back",
        S::Complete => "`pgshift revert` takes it back, `pgshift purge` makes it final",
        S::Purged => "it is final; write a new migration",
        S::Baselined => "it was not run by pgshift; write a new migration",
    };
    NotPossible {
        why: format!("{wanted}: the migration is {state}"),
        instead: instead.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(inputs: &[Input]) -> Result<State, NotPossible> {
        inputs
            .iter()
            .try_fold(State::Pending, |s, i| transition(s, *i))
    }

    #[test]
    fn the_whole_way_and_the_way_back() {
        use Input::{Finish, Start};
        use RunKind::{Apply, Contract, Purge, Revert, Uncontract};
        let to_complete = [
            Start(Apply),
            Finish {
                kind: Apply,
                more: true,
            },
            Start(Contract),
            Finish {
                kind: Contract,
                more: false,
            },
        ];
        assert_eq!(walk(&to_complete), Ok(State::Complete));
        let with = |more: &[Input]| walk(&[&to_complete[..], more].concat());
        assert_eq!(
            with(&[
                Start(Revert),
                Finish {
                    kind: Revert,
                    more: false
                },
                Start(Apply)
            ]),
            Ok(State::Applying)
        );
        assert_eq!(
            with(&[
                Start(Uncontract),
                Finish {
                    kind: Uncontract,
                    more: true
                }
            ]),
            Ok(State::Ready)
        );
        assert_eq!(
            with(&[
                Start(Purge),
                Finish {
                    kind: Purge,
                    more: false
                }
            ]),
            Ok(State::Purged)
        );
    }

    #[test]
    fn a_way_back_that_is_called_off_leads_to_where_it_began() {
        use RunKind::{Apply, Contract, Revert};
        for (kind, whole, more, before) in [
            (Apply, false, true, State::Applying),
            (Apply, true, true, State::Ready),
            (Apply, true, false, State::Complete),
            (Contract, false, true, State::Contracting),
            (Contract, true, true, State::Complete),
        ] {
            let off = Input::CallOff { kind, whole, more };
            assert_eq!(transition(State::Reverting, off), Ok(before));
            assert_eq!(
                transition(before, Input::Start(Revert)),
                Ok(State::Reverting)
            );
            for state in State::ALL.into_iter().filter(|s| *s != State::Reverting) {
                let refused = transition(state, off).expect_err("no way back");
                assert!(refused.why.contains("no way back"), "{state}");
            }
        }
    }

    #[test]
    fn purged_is_final_and_says_so() {
        for kind in RunKind::ALL {
            let refused = transition(State::Purged, Input::Start(kind)).expect_err("final");
            assert!(refused.why.contains("purged") && refused.instead.contains("new migration"));
        }
    }

    #[test]
    fn contract_needs_ready() {
        for state in State::ALL {
            let allowed = transition(state, Input::Start(RunKind::Contract)).is_ok();
            assert_eq!(allowed, state == State::Ready, "{state}");
        }
    }

    #[test]
    fn names_round_trip() {
        for state in State::ALL {
            assert_eq!(state.name().parse(), Ok(state));
        }
        for kind in RunKind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        for state in RunState::ALL {
            assert_eq!(state.name().parse(), Ok(state));
        }
    }
}
