//! All that a user can see of a schema, flat and comparable: a fact an object or part of one.
//!
//! Read by `pg::shape`. Two shapes of the same schema are equal, however it came to be.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

/// The facts: `public.orders column total` → `numeric(10,2) not null default 0`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape(BTreeMap<String, String>);

/// What is not as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The object or part of it: `public.orders column total`.
    pub object: String,
    /// What it was; `None` where it was not there.
    pub before: Option<String>,
    /// What it is; `None` where it is not there.
    pub after: Option<String>,
}

impl Shape {
    /// Adds a fact; what comes in several facts of one name is one fact of several lines.
    pub fn add(&mut self, object: String, fact: &str) {
        let text = self.0.entry(object).or_default();
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(fact);
    }

    /// The facts by object.
    pub fn facts(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// A line a fact, sorted; further lines of a fact are indented.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (object, fact) in &self.0 {
            let _ = writeln!(text, "{object}: {}", fact.replace('\n', "\n    "));
        }
        text
    }

    /// What is different in `after`, in order of object. The parts of a relation that is gone or
    /// new are not listed beside it.
    pub fn differences(&self, after: &Self) -> Vec<Difference> {
        let objects: std::collections::BTreeSet<&String> =
            self.0.keys().chain(after.0.keys()).collect();
        let mut found: Vec<Difference> = Vec::new();
        for object in objects {
            let (was, is) = (self.0.get(object), after.0.get(object));
            if was == is {
                continue;
            }
            // A part sorts after its whole.
            let inside = found.iter().any(|d| {
                (d.before.is_none() || d.after.is_none())
                    && d.before.is_none() == was.is_none()
                    && d.after.is_none() == is.is_none()
                    && object
                        .strip_prefix(&d.object)
                        .is_some_and(|rest| rest.starts_with(' '))
            });
            if !inside {
                found.push(Difference {
                    object: object.clone(),
                    before: was.cloned(),
                    after: is.cloned(),
                });
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shape(facts: &[(&str, &str)]) -> Shape {
        let mut shape = Shape::default();
        for (object, fact) in facts {
            shape.add((*object).to_owned(), fact);
        }
        shape
    }

    #[test]
    fn what_is_gone_new_or_changed_is_told_once() {
        let before = shape(&[
            ("public.a", "table"),
            ("public.a column x", "int"),
            ("public.b", "table"),
            ("public.b column x", "int"),
        ]);
        let after = shape(&[
            ("public.a", "table"),
            ("public.a column x", "bigint"),
            ("public.ab", "table"),
            ("public.ab column x", "int"),
        ]);
        let told: Vec<_> = before
            .differences(&after)
            .into_iter()
            .map(|d| (d.object, d.before.is_some(), d.after.is_some()))
            .collect();
        assert_eq!(
            told,
            [
                ("public.a column x".to_owned(), true, true),
                ("public.ab".to_owned(), false, true),
                ("public.b".to_owned(), true, false),
            ]
        );
        assert_eq!(before.differences(&before), []);
    }

    fn any_shape() -> impl Strategy<Value = Shape> {
        proptest::collection::btree_map("[ab]( [ab]){0,2}", "[xy]", 0..6).prop_map(Shape)
    }

    proptest! {
        #[test]
        fn differences_exactly_when_different(a in any_shape(), b in any_shape()) {
            prop_assert_eq!(a.differences(&b).is_empty(), a == b);
            prop_assert_eq!(a.differences(&b).len(), b.differences(&a).len());
        }
    }
}
