use super::*;
use crate::lint::script::{Reading, read};
use crate::lint::{Options, World, baseline, lint};
use crate::report::text::Style;

fn report() -> Report {
    let text = "-- é\nALTER TABLE \"a,b:c\" ADD COLUMN n uuid\n  DEFAULT gen_random_uuid();\nDROP TABLE t;\n";
    let script = read("m/1 <x>.sql", text, &Reading::default());
    let mut findings = lint(&script, &mut World::unknown(15), &Options::default());
    baseline::fingerprints(&mut findings, "m/1 <x>.sql", &script.source);
    Report {
        files: vec![
            File {
                path: "m/1 <x>.sql".into(),
                source: script.source,
                runner: Some(script.runner),
                findings,
            },
            File {
                path: "m/2.sql".into(),
                source: Source::new("m/2.sql", ""),
                runner: None,
                findings: Vec::new(),
            },
        ],
        unread: vec![Unread {
            path: "m/3.sql".into(),
            message: "permission denied".into(),
        }],
        ..Report::default()
    }
}

#[test]
fn formats() {
    let report = report();
    insta::assert_snapshot!("human", human(&report, Style::default(), true));
    insta::assert_snapshot!("github", github(&report));
    insta::assert_snapshot!("junit", junit(&report));
    let pretty = |v| serde_json::to_string_pretty(&v).expect("JSON");
    insta::assert_snapshot!("json", pretty(json(&report)));
    insta::assert_snapshot!("gitlab", pretty(gitlab(&report)));
    let mut sarif = sarif(&report, "1.2.3");
    let rules = sarif["runs"][0]["tool"]["driver"]["rules"]
        .as_array_mut()
        .expect("rules");
    assert_eq!(rules.len(), crate::lint::rules::all().count());
    rules.truncate(1);
    insta::assert_snapshot!("sarif", pretty(sarif));
}

#[test]
fn an_explanation() {
    let rule = crate::lint::rules::named("set-expression").expect("a rule");
    insta::assert_snapshot!(explain(rule, Style::default()));
}
