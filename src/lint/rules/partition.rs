//! Rules about partitions.

use crate::lint::context::Cx;
use crate::lint::{Rule, Severity};
use crate::lock::LockMode;
use crate::plan::work::{Work, op_work};
use crate::sql::ddl::{Action, AlterOpKind};

static CREATE_PARTITION: Rule = Rule {
    id: "PS501",
    slug: "create-partition",
    severity: Severity::Warning,
    since: 14,
    summary: "CREATE TABLE … PARTITION OF locks the parent exclusively.",
    why: "It takes ACCESS EXCLUSIVE on the parent: reads and writes of all partitions wait until \
          the commit, and behind whoever it waits for. Where there is a default partition, that is \
          locked and read as well. ATTACH PARTITION takes only SHARE UPDATE EXCLUSIVE on the \
          parent.",
    safe: "CREATE TABLE … (LIKE parent INCLUDING ALL) with a CHECK of the bounds, then ALTER TABLE \
           parent ATTACH PARTITION",
    bad: "CREATE TABLE events_2027 PARTITION OF events FOR VALUES FROM ('2027-01-01') TO ('2028-01-01');",
    good: "CREATE TABLE events_2027 (LIKE events INCLUDING ALL);\n\
           ALTER TABLE events ATTACH PARTITION events_2027 FOR VALUES FROM ('2027-01-01') TO ('2028-01-01');",
};

static ATTACH_PARTITION: Rule = Rule {
    id: "PS502",
    slug: "attach-partition",
    severity: Severity::Warning,
    since: 14,
    summary: "ATTACH PARTITION reads every row of the table that it attaches.",
    why: "Unless a valid CHECK says the same as the bounds, the table is read under ACCESS \
          EXCLUSIVE on it. The default partition, if there is one, is locked and read too.",
    safe: "add a CHECK of the bounds first (NOT VALID, then VALIDATE CONSTRAINT), attach, and drop \
           the CHECK",
    bad: "ALTER TABLE events ATTACH PARTITION old_events FOR VALUES FROM (0) TO (10);",
    good: "ALTER TABLE old_events ADD CONSTRAINT bounds CHECK (id IS NOT NULL AND id >= 0 AND id < 10) NOT VALID;\n\
           ALTER TABLE old_events VALIDATE CONSTRAINT bounds;\n\
           ALTER TABLE events ATTACH PARTITION old_events FOR VALUES FROM (0) TO (10);",
};

static DETACH_PARTITION: Rule = Rule {
    id: "PS503",
    slug: "detach-partition",
    severity: Severity::Warning,
    since: 14,
    summary: "DETACH PARTITION without CONCURRENTLY locks the parent exclusively.",
    why: "It takes ACCESS EXCLUSIVE on the parent and the partition: reads and writes of all \
          partitions wait behind the longest transaction on any.",
    safe: "DETACH PARTITION … CONCURRENTLY, outside of a transaction; it does not work with a \
           default partition",
    bad: "ALTER TABLE events DETACH PARTITION events_2020;",
    good: "ALTER TABLE events DETACH PARTITION events_2020 CONCURRENTLY;",
};

pub(super) static RULES: [&Rule; 3] = [&CREATE_PARTITION, &ATTACH_PARTITION, &DETACH_PARTITION];

pub(super) fn check(cx: &mut Cx<'_>) {
    match &cx.unit.action {
        Action::CreateTable {
            name,
            partition_of: Some(parent),
            ..
        } if cx.in_use(parent) => {
            let finding = cx
                .found(
                    &CREATE_PARTITION,
                    cx.whole(),
                    format!(
                        "making {name} as a partition stops reads and writes of all of {}",
                        cx.named(parent)
                    ),
                )
                .on(cx, parent, LockMode::AccessExclusive);
            cx.report(finding);
        }
        Action::AlterTable { .. } => {
            let ops: Vec<_> = cx.ops().collect();
            for (name, op) in ops {
                match &op.kind {
                    AlterOpKind::AttachPartition { partition, .. }
                        if cx.heavy(partition)
                            && op_work(&op.kind, cx.table(name), cx.world.catalog())
                                != Work::None =>
                    {
                        let finding = cx
                            .found(
                                &ATTACH_PARTITION,
                                op.span,
                                format!(
                                    "unless a CHECK proves the bounds, every row of {}{} is read",
                                    cx.named(partition),
                                    cx.facts(partition)
                                ),
                            )
                            .on(cx, partition, LockMode::AccessExclusive);
                        let finding = cx.with_safe_form(finding);
                        cx.report(finding);
                    }
                    AlterOpKind::DetachPartition {
                        partition,
                        concurrently: false,
                        finalize: false,
                    } => {
                        let finding = cx
                            .found(
                                &DETACH_PARTITION,
                                op.span,
                                format!(
                                    "detaching {} stops reads and writes of all of {}",
                                    cx.named(partition),
                                    cx.named(name)
                                ),
                            )
                            .on(cx, name, LockMode::AccessExclusive);
                        cx.report(finding);
                    }
                    _ => {}
                }
            }
        }
        _ => {}
    }
}
