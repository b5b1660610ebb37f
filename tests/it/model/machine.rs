//! The life of one migration as the documentation tells it: what each command gives in each state,
//! and where it leads. It knows nothing of `src/`.

/// Where a migration stands. The way back has two, which the state tables tell by the run's kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    Pending,
    Applying,
    Ready,
    Contracting,
    Complete,
    /// To before the migration.
    Reverting,
    /// To READY.
    Uncontracting,
    Reverted,
    Purging,
    Purged,
}

impl State {
    pub(super) const ALL: [Self; 10] = [
        Self::Pending,
        Self::Applying,
        Self::Ready,
        Self::Contracting,
        Self::Complete,
        Self::Reverting,
        Self::Uncontracting,
        Self::Reverted,
        Self::Purging,
        Self::Purged,
    ];

    /// What `pgshift status` calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Applying => "applying",
            Self::Ready => "ready",
            Self::Contracting => "contracting",
            Self::Complete => "complete",
            Self::Reverting | Self::Uncontracting => "reverting",
            Self::Reverted => "reverted",
            Self::Purging => "purging",
            Self::Purged => "purged",
        }
    }

    pub(super) fn in_motion(self) -> bool {
        use State::{Applying, Contracting, Purging, Reverting, Uncontracting};
        [Applying, Contracting, Reverting, Uncontracting, Purging].contains(&self)
    }

    /// An edited file is an error from here on.
    fn is_applied(self) -> bool {
        !matches!(self, Self::Pending | Self::Reverted)
    }
}

/// What a user says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Apply,
    ApplyThrough,
    Contract,
    Revert,
    RevertToReady,
    Purge,
    /// Without `--yes`, where nobody can be asked.
    PurgeUnsaid,
    Resume,
    Pause,
    Verify,
    Status,
    Log,
    /// A change of the file, or its way back.
    Edit,
}

impl Command {
    /// Those that execute steps.
    pub(super) const RUNS: [Self; 7] = [
        Self::Apply,
        Self::ApplyThrough,
        Self::Contract,
        Self::Revert,
        Self::RevertToReady,
        Self::Purge,
        Self::Resume,
    ];

    /// Those that say or ask something.
    pub(super) const WORDS: [Self; 6] = [
        Self::PurgeUnsaid,
        Self::Pause,
        Self::Verify,
        Self::Status,
        Self::Log,
        Self::Edit,
    ];

    pub(super) fn is_run(self) -> bool {
        Self::RUNS.contains(&self)
    }
}

/// What must come of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Exit codes that are right.
    pub(super) codes: &'static [i32],
    /// The states that it passes, from the present one to its end.
    pub(super) path: Vec<State>,
}

/// What may come of two commands at once.
#[derive(Debug, Default)]
pub(super) struct Both {
    /// Their exit codes, and where it ends.
    pub(super) ends: Vec<([i32; 2], Machine)>,
    /// The runs that there may be: from where, and the states that it passes.
    pub(super) ways: Vec<(Machine, Vec<State>)>,
}

/// One of two commands on its way.
#[derive(Debug, Clone)]
struct Side {
    command: Command,
    /// Runs that are left; `None` before it has begun.
    left: Option<Vec<Command>>,
    code: Option<i32>,
    /// It came somewhere.
    ran: bool,
    refused: bool,
}

/// A migration.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    pub(super) state: State,
    /// It has a contract part: apply ends READY.
    pub(super) contract: bool,
    /// It was paused, and not resumed since.
    pub(super) paused: bool,
    /// The way back began where the old columns were already set aside.
    pub(super) from_contract: bool,
    /// Versions of the file: as it is, and as it was applied.
    pub(super) file: u8,
    pub(super) applied: u8,
}

impl Machine {
    pub(super) fn new(contract: bool) -> Self {
        Self {
            state: State::Pending,
            contract,
            paused: false,
            from_contract: false,
            file: 0,
            applied: 0,
        }
    }

    pub(super) fn edited(&self) -> bool {
        self.state.is_applied() && self.file != self.applied
    }

    /// Where an apply ends.
    fn applied_state(&self) -> State {
        if self.contract {
            State::Ready
        } else {
            State::Complete
        }
    }

    fn to(&self, codes: &'static [i32], then: &[State]) -> Outcome {
        let mut path = vec![self.state];
        path.extend_from_slice(then);
        Outcome { codes, path }
    }

    /// `docs/exit-codes.md`: 2, the input is wrong.
    fn usage(&self) -> Outcome {
        self.to(&[2], &[])
    }

    /// 3, pgshift will not do this.
    fn refused(&self) -> Outcome {
        self.to(&[3], &[])
    }

    fn done(&self, then: &[State]) -> Outcome {
        self.to(&[0], then)
    }

    #[expect(
        clippy::match_same_arms,
        reason = "a table: one line for each thing that is so"
    )]
    pub(super) fn outcome(&self, command: Command) -> Outcome {
        use Command as C;
        use State as S;
        // A migration that was never applied is known by its file alone.
        let unknown = self.state == S::Pending;
        let back: &[S] = match self.state {
            S::Uncontracting => &[S::Ready, S::Reverting, S::Reverted],
            S::Reverting => &[S::Reverted],
            _ => &[S::Reverting, S::Reverted],
        };
        match command {
            C::Status | C::Edit => self.done(&[]),
            // Where it was never used there is no log.
            C::Log if unknown => self.to(&[0, 3], &[]),
            C::Log => self.done(&[]),
            C::Apply | C::ApplyThrough | C::Contract if self.edited() => self.usage(),
            C::Apply | C::ApplyThrough => self.apply(command == C::ApplyThrough),
            _ if unknown => self.usage(),
            C::Contract => match self.state {
                S::Ready => self.done(&[S::Contracting, S::Complete]),
                S::Contracting => self.done(&[S::Complete]),
                _ => self.refused(),
            },
            C::Revert => match self.state {
                S::Reverted | S::Purging | S::Purged => self.refused(),
                _ => self.done(back),
            },
            C::RevertToReady => match self.state {
                S::Contracting => self.done(&[S::Uncontracting, S::Ready]),
                S::Complete if self.contract => self.done(&[S::Uncontracting, S::Ready]),
                S::Uncontracting => self.done(&[S::Ready]),
                _ => self.refused(),
            },
            C::Purge => match self.state {
                S::Complete => self.done(&[S::Purging, S::Purged]),
                S::Purging => self.done(&[S::Purged]),
                _ => self.refused(),
            },
            C::PurgeUnsaid => self.refused(),
            C::Resume => match self.state {
                S::Applying => self.done(&[self.applied_state()]),
                S::Contracting => self.done(&[S::Complete]),
                S::Reverting => self.done(&[S::Reverted]),
                S::Uncontracting => self.done(&[S::Ready]),
                S::Purging => self.done(&[S::Purged]),
                _ => self.refused(),
            },
            C::Pause if self.state.in_motion() => self.done(&[]),
            C::Pause => self.refused(),
            C::Verify => match self.state {
                S::Ready => self.done(&[]),
                // Rows that the backfill has not reached are wrong, and before the backfill there
                // is nothing to compare.
                S::Applying => self.to(&[0, 1, 3], &[]),
                _ => self.refused(),
            },
        }
    }

    fn apply(&self, through: bool) -> Outcome {
        use State as S;
        let on: &[S] = match (self.contract, through) {
            (true, true) => &[S::Ready, S::Contracting, S::Complete],
            (true, false) => &[S::Ready],
            (false, _) => &[S::Complete],
        };
        match self.state {
            S::Pending | S::Reverted => self.done(&[&[S::Applying], on].concat()),
            S::Applying => self.done(on),
            S::Ready if through => self.done(&[S::Contracting, S::Complete]),
            S::Ready | S::Complete => self.done(&[]),
            _ => self.refused(),
        }
    }

    /// The runs that a command consists of: between two of them another runner may come.
    fn runs_of(&self, command: Command) -> Vec<Command> {
        use Command as C;
        match (command, self.state) {
            (C::ApplyThrough, State::Ready) => vec![C::Contract],
            (C::ApplyThrough, _) => vec![C::Apply, C::Contract],
            (C::Revert, State::Uncontracting) => vec![C::RevertToReady, C::Revert],
            _ => vec![command],
        }
    }

    /// All that may come of two commands that begin at once: their runs are one after the other in
    /// any order, or one of them is refused while the other lives.
    pub(super) fn both(&self, commands: [Command; 2]) -> Both {
        let mut both = Both::default();
        let sides = commands.map(|command| Side {
            command,
            left: None,
            code: None,
            ran: false,
            refused: false,
        });
        self.interleave(&sides, &mut both);
        both
    }

    fn interleave(&self, sides: &[Side; 2], both: &mut Both) {
        if let [Some(one), Some(two)] = [sides[0].code, sides[1].code] {
            // Without the other nobody would have refused it.
            let alone = |n: usize| sides[n].refused && !sides[1 - n].ran;
            if !alone(0) && !alone(1) {
                both.ends.push(([one, two], self.clone()));
            }
            return;
        }
        for n in [0, 1] {
            let side = &sides[n];
            if side.code.is_some() {
                continue;
            }
            let with = |side: Side| {
                let mut sides = sides.clone();
                sides[n] = side;
                sides
            };
            let mut refused = side.clone();
            refused.code = Some(3);
            refused.refused = true;
            self.interleave(&with(refused), both);
            // The input is looked at as a whole, and before anything is done.
            if side.left.is_none() && self.outcome(side.command).codes == [2] {
                let mut wrong = side.clone();
                wrong.code = Some(2);
                self.interleave(&with(wrong), both);
                continue;
            }
            let mut left = side
                .left
                .clone()
                .unwrap_or_else(|| self.runs_of(side.command));
            let run = left.remove(0);
            let outcome = self.outcome(run);
            let (mut side, mut after) = (side.clone(), self.clone());
            if outcome.codes == [0] {
                both.ways.push((self.clone(), outcome.path.clone()));
                let end = *outcome.path.last().expect("a state");
                after.reach(&outcome.path, end);
                if run == Command::Resume {
                    after.paused = false;
                }
                side.ran |= end != self.state;
                // Without a contract part an apply is all that there is to do.
                let done = left.is_empty() || end == State::Complete;
                side.code = done.then_some(0);
                side.left = Some(left);
            } else {
                side.code = outcome.codes.first().copied();
            }
            after.interleave(&with(side), both);
        }
    }

    /// What a command gives while another runner lives. One that is at the same time is refused;
    /// a resume ends the pause of the live one.
    pub(super) fn beside(&self, command: Command) -> &'static [i32] {
        use Command as C;
        match command {
            C::Apply | C::ApplyThrough | C::Contract if self.edited() => &[2],
            C::Resume if self.paused => &[0],
            run if run.is_run() => &[3],
            _ => self.outcome(command).codes,
        }
    }

    /// It would wait for somebody to end the pause.
    pub(super) fn may_hold(&self, command: Command) -> bool {
        use Command as C;
        self.paused && [C::Apply, C::ApplyThrough, C::Contract, C::Verify].contains(&command)
    }

    /// Goes along a command's path, as far as to `state`.
    pub(super) fn reach(&mut self, path: &[State], state: State) {
        for now in path.iter().skip(1) {
            if self.state == state {
                return;
            }
            match now {
                State::Applying => self.applied = self.file,
                State::Reverting => {
                    let aside = matches!(self.state, State::Contracting | State::Complete);
                    self.from_contract = aside && self.contract;
                }
                _ => {}
            }
            // A pause is of a run, and ends with it.
            self.paused = false;
            self.state = *now;
        }
    }

    /// What a word changes.
    pub(super) fn said(&mut self, command: Command) {
        match command {
            Command::Pause => self.paused = true,
            Command::Edit => self.file = (self.file + 1) % 2,
            _ => {}
        }
    }
}

#[test]
fn two_commands_at_once_end_as_one_after_the_other_or_refused() {
    use Command as C;
    use State as S;
    let ends = |state, commands| {
        let machine = Machine {
            state,
            ..Machine::new(true)
        };
        let mut ends: Vec<([i32; 2], State)> = machine
            .both(commands)
            .ends
            .into_iter()
            .map(|(codes, after)| (codes, after.state))
            .collect();
        ends.sort_unstable();
        ends.dedup();
        ends
    };
    assert_eq!(
        ends(S::Ready, [C::Contract, C::Revert]),
        [
            ([0, 0], S::Reverted),
            ([0, 3], S::Complete),
            ([3, 0], S::Reverted),
        ]
    );
    assert_eq!(
        ends(S::Pending, [C::Apply, C::Resume]),
        [([0, 2], S::Ready), ([0, 3], S::Ready)]
    );
    // The contract of the one may be the other's.
    assert_eq!(
        ends(S::Pending, [C::ApplyThrough, C::Contract]),
        [
            ([0, 2], S::Complete),
            ([0, 3], S::Complete),
            ([3, 0], S::Complete),
        ]
    );
    assert_eq!(
        ends(S::Purged, [C::Apply, C::Resume]),
        [([3, 3], S::Purged)]
    );
}

#[test]
fn every_state_can_be_left_or_is_final() {
    for contract in [true, false] {
        for state in State::ALL {
            let machine = Machine {
                state,
                ..Machine::new(contract)
            };
            let leaves = Command::RUNS.into_iter().filter(|command| {
                let outcome = machine.outcome(*command);
                outcome.codes == [0] && outcome.path.last() != Some(&state)
            });
            assert_eq!(leaves.count() == 0, state == State::Purged, "{state:?}");
        }
    }
}
