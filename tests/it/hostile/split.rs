//! A file is split into the statements that the server sees in it: sent whole and sent in pieces,
//! the same happens.

use pgshift::sql::Span;
use pgshift::sql::split::split;

use crate::support::{Db, message};

const SCRIPTS: &[&str] = &[
    "INSERT INTO r VALUES ('a;b'); INSERT INTO r VALUES ('c')",
    "INSERT INTO r VALUES (E'it\\'s; '';') /* ; /* ; */ ; */; -- ;\nINSERT INTO r VALUES ('x')",
    "INSERT INTO r VALUES ('\\'); INSERT INTO r VALUES (';--')",
    "INSERT INTO r VALUES ($$;$$), ($a$ $$;' $a$), ($é$;$é$); INSERT INTO r VALUES ($$'$$)",
    "INSERT INTO r VALUES (E'a'\n'\\';'); INSERT INTO r VALUES ('b'\n  ';')",
    "INSERT INTO r VALUES (E'a' -- ;\n'\\';'); INSERT INTO r VALUES ('b')",
    "INSERT INTO r VALUES (U&'\\003b;'), (U&'!003b' UESCAPE '!'), (N';'); SELECT 1 AS \"a;\"\"b\"",
    "SELECT B'101', X'1f;'::text WHERE false; INSERT INTO r VALUES ('x')",
    "SELECT 1 AS U&\"d\\0061t;\"; INSERT INTO r VALUES ('x')",
    "SELECT 1-- ;\n; SELECT 2 --;\n+ 1; INSERT INTO r VALUES ('x')",
    "SELECT 3 @ -- ;\n 1; INSERT INTO r VALUES ('x')",
    "SELECT 1 +/* ; */ 1; SELECT 2*/**/3; INSERT INTO r VALUES ('x')",
    "SELECT a$b$c FROM (SELECT 1 AS a$b$c) x; INSERT INTO r VALUES ('$b$')",
    "SELECT 1 AS é$x$; INSERT INTO r VALUES ('x')",
    "CREATE RULE u AS ON UPDATE TO r DO ALSO (INSERT INTO l VALUES ('1'); INSERT INTO l VALUES (';'));
     INSERT INTO r VALUES ('x'); UPDATE r SET a = 'y'",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 2
     END; END; INSERT INTO r SELECT f()::text",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1; SELECT 2;'; INSERT INTO r SELECT f()::text",
    "DO $x$ BEGIN INSERT INTO r VALUES ($$;$$); PERFORM 1; END $x$; INSERT INTO r VALUES ('x')",
    ";;; INSERT INTO r VALUES ('x');; ;/* ; */; -- ;",
    "INSERT INTO r VALUES ('a');\r\nINSERT INTO r VALUES ('b\r\n;');\r--;\rINSERT INTO r VALUES ('c')",
    "INSERT INTO r SELECT (ARRAY[';'])[1:1]::text; INSERT INTO r VALUES ('x')",
    "INSERT INTO r VALUES ('a'); SELECT 'broken",
    "INSERT INTO r VALUES ('a'); SELECT (1; SELECT 2)",
    "INSERT INTO r VALUES ('a'); SELECT 1);",
    "INSERT INTO r VALUES ('a'); SELECT /* x",
];

async fn sees(db: &Db) -> Vec<String> {
    db.rows(
        "SELECT coalesce(string_agg(a, '|' ORDER BY n), '') FROM r UNION ALL
             SELECT coalesce(string_agg(a, '|' ORDER BY n), '') FROM l",
    )
    .await
}

#[tokio::test]
async fn pieces_do_what_the_whole_does() {
    let setup = "CREATE TABLE r (a text, n serial); CREATE TABLE l (a text, n serial)";
    for script in SCRIPTS {
        let (whole, pieces) = (
            Db::with("split", setup).await,
            Db::with("split", setup).await,
        );
        // The whole as one message: one implicit transaction, none of it where the syntax is wrong.
        let client = whole.client().await;
        let refused = client.batch_execute(script).await.err();
        let found = split(script, Span::new(0, script.len()));
        match (refused, found) {
            (None, Ok(all)) => {
                for statement in all {
                    // The extended protocol takes one statement only.
                    let sql = statement.span.of(script);
                    let client = pieces.client().await;
                    let prepared = client.prepare(sql).await;
                    let prepared = prepared.unwrap_or_else(|e| panic!("{}: {sql}", message(&e)));
                    client.execute(&prepared, &[]).await.expect(sql);
                }
                assert_eq!(sees(&whole).await, sees(&pieces).await, "{script}");
            }
            (Some(_), Err(_)) => {}
            // What is wrong in a statement is the server's to say; it must be one for it too.
            (Some(refused), Ok(all)) => {
                let mut codes = Vec::new();
                for statement in all {
                    let client = pieces.client().await;
                    if let Err(e) = client.batch_execute(statement.span.of(script)).await {
                        codes.push(e.code().cloned());
                    }
                }
                assert!(
                    codes.contains(&refused.code().cloned()),
                    "{script}: {codes:?}"
                );
            }
            (None, Err(wrong)) => panic!("{wrong:?} in {script}"),
        }
    }
}
