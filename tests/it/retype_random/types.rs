//! Changes of a column's type: what is written before and after, and what may stand on the column.

/// A change of type. In texts `{g}` is the number of a row, `{c}` the column.
///
/// Conditions and expressions must mean the same for both types, also where the server has written
/// them down for the old type and they are read again for the new one: no constants of the type. No
/// lists where the type of their constants changes too: the server moves the casts in them each
/// time it reads what it has written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conversion {
    pub(super) from: &'static str,
    pub(super) to: &'static str,
    /// After USING; empty where there is none.
    pub(super) using: &'static str,
    /// What the reverse section says; empty where the way back is a cast, or nothing says it.
    pub(super) reverse: &'static str,
    /// How often it is taken.
    pub(super) weight: u32,
    /// A value of the old type, another one for each row.
    pub(super) value: &'static str,
    /// Immutable, true for every value and for null.
    pub(super) conditions: &'static [&'static str],
    /// Immutable, never null but for null.
    pub(super) expressions: &'static [&'static str],
    /// Defaults that the server can cast.
    pub(super) defaults: &'static [&'static str],
    /// An integer that can have a sequence.
    pub(super) sequence: bool,
    /// It may refer to a column of the old type, and may be referred to by one.
    pub(super) refers: bool,
    pub(super) referred: bool,
    /// Collations, operator classes and storage of texts.
    pub(super) text: bool,
    /// Sorted and compared by btree; all but `json`.
    pub(super) ordered: bool,
}

const INT: Conversion = Conversion {
    from: "integer",
    to: "bigint",
    using: "",
    reverse: "",
    weight: 170,
    value: "(CASE {g} WHEN 1 THEN 2147483647 WHEN 2 THEN -2147483648 ELSE {g} * 7 - 50 END)::int",
    conditions: &[
        "{c} IS NULL OR {c} <> 5000000",
        "{c} % 10 < 10",
        "abs({c}::numeric) >= 0",
        "{c} IN (1, 2, 3) IS NOT FALSE OR {c} BETWEEN -3000000000 AND 3000000000",
    ],
    expressions: &["{c} / 2", "{c} % 100", "({c}::text || '!')", "-({c} / 3)"],
    defaults: &["42", "-1", "(1 + 2)", "length('four')", "NULL"],
    sequence: true,
    refers: true,
    referred: true,
    text: false,
    ordered: true,
};

const TEXT: Conversion = Conversion {
    from: "text",
    to: "varchar(60)",
    weight: 4,
    value: "('v' || {g} || repeat('é', {g}::int % 7))::text",
    conditions: &[
        "length({c}::text) < 100",
        "{c}::text IS NULL OR {c}::text ~ '.'",
        "lower({c}::text) <> 'nothing'",
    ],
    expressions: &[
        "lower({c}::text)",
        "length({c}::text)",
        "substr({c}::text, 1, 3)",
    ],
    defaults: &["'none'", "upper('none')", "NULL"],
    sequence: false,
    text: true,
    ..INT
};

/// All of them. Integer to bigint is what most people need.
pub(super) const CONVERSIONS: &[Conversion] = &[
    INT,
    Conversion {
        from: "smallint",
        to: "integer",
        weight: 5,
        value: "(({g} * 3 + {g} / 50000) % 60000 - 30000)::smallint",
        ..INT
    },
    Conversion {
        from: "smallint",
        to: "bigint",
        weight: 3,
        value: "(({g} * 3 + {g} / 50000) % 60000 - 30000)::smallint",
        ..INT
    },
    Conversion {
        to: "numeric",
        weight: 7,
        conditions: &[
            "{c} IS NULL OR {c} <> 5000000",
            "{c} % 10 < 10",
            "{c} BETWEEN -3000000000 AND 3000000000 OR {c} IS NULL",
        ],
        expressions: &["{c} % 100", "({c}::text || '!')", "-({c} / 3)"],
        sequence: false,
        refers: false,
        ..INT
    },
    Conversion {
        to: "numeric(20,4)",
        weight: 3,
        conditions: &[
            "{c} IS NULL OR {c} <> 5000000",
            "{c} % 10 < 10",
            "{c} BETWEEN -3000000000 AND 3000000000 OR {c} IS NULL",
        ],
        expressions: &["{c} % 100", "-({c} / 3)"],
        sequence: false,
        refers: false,
        ..INT
    },
    Conversion {
        from: "bigint",
        to: "numeric(20)",
        weight: 2,
        value: "({g}::bigint * 3000000000)",
        conditions: &["{c} % 10 < 10"],
        expressions: &["{c} % 100", "-({c} / 3)"],
        sequence: false,
        refers: false,
        ..INT
    },
    Conversion {
        from: "numeric(10,2)",
        to: "numeric(12,4)",
        weight: 3,
        value: "({g} * 1.25)::numeric(10,2)",
        conditions: &["{c} > -1000", "{c} IS NULL OR {c} <> 0.33"],
        expressions: &["round({c})", "-({c} / 3)"],
        defaults: &["1.5", "0", "NULL"],
        sequence: false,
        ..INT
    },
    Conversion {
        to: "text",
        weight: 7,
        conditions: &["length({c}::text) < 100", "{c} IS NULL OR {c}::text ~ '.'"],
        expressions: &["({c}::text || '!')", "length({c}::text)"],
        defaults: &["42", "(1 + 2)", "NULL"],
        sequence: false,
        refers: false,
        referred: false,
        ..INT
    },
    Conversion {
        using: "'#' || {c}",
        reverse: "substr({c}, 2)::integer",
        to: "text",
        weight: 3,
        conditions: &["length({c}::text) < 100"],
        expressions: &["({c}::text || '!')"],
        defaults: &["42", "NULL"],
        sequence: false,
        refers: false,
        referred: false,
        ..INT
    },
    Conversion {
        from: "text",
        to: "integer",
        using: "{c}::integer",
        weight: 7,
        value: "({g} * 7)::text",
        // The first is one that an integer cannot have: the cast of a text to text is not kept.
        conditions: &[
            "length({c}::text) < 100",
            "{c} IS NULL OR {c} = {c}",
            "'#' || {c} <> ''",
            "{c} IS NULL OR {c} IS NOT NULL",
        ],
        expressions: &["{c} IS NULL"],
        defaults: &["NULL"],
        refers: false,
        referred: false,
        ..TEXT
    },
    TEXT,
    Conversion {
        from: "character(12)",
        to: "varchar(60)",
        value: "('v' || {g})::character(12)",
        weight: 3,
        expressions: &["lower({c}::text)"],
        ..TEXT
    },
    Conversion {
        from: "varchar(40)",
        to: "varchar(30)",
        value: "('v' || {g})::varchar(40)",
        weight: 3,
        ..TEXT
    },
    Conversion {
        from: "varchar(40)",
        to: "bytea",
        using: "convert_to({c}, 'UTF8')",
        reverse: "convert_from({c}, 'UTF8')",
        value: "('v' || {g})::varchar(40)",
        weight: 2,
        conditions: &["octet_length({c}) < 400"],
        expressions: &["octet_length({c})"],
        defaults: &["NULL"],
        refers: false,
        referred: false,
        ..TEXT
    },
    Conversion {
        from: "timestamp",
        to: "timestamptz",
        using: "{c} AT TIME ZONE 'UTC'",
        reverse: "{c} AT TIME ZONE 'UTC'",
        weight: 6,
        value: "(timestamp '2024-03-09 23:30' + {g} * interval '37 minutes')",
        conditions: &["isfinite({c})", "{c} IS NULL OR isfinite({c})"],
        expressions: &["isfinite({c})"],
        defaults: &["CURRENT_TIMESTAMP", "NULL", "now()"],
        sequence: false,
        // Hours that a time zone skips become others.
        refers: false,
        referred: false,
        ..INT
    },
    // Refused: the time zone is not said.
    Conversion {
        from: "timestamp",
        to: "timestamptz",
        weight: 1,
        value: "(timestamp '2024-03-09 23:30' + {g} * interval '37 minutes')",
        conditions: &["isfinite({c})", "{c} IS NULL OR isfinite({c})"],
        expressions: &["isfinite({c})"],
        defaults: &["CURRENT_TIMESTAMP", "NULL", "now()"],
        sequence: false,
        refers: false,
        referred: false,
        ..INT
    },
    Conversion {
        from: "date",
        to: "timestamptz",
        using: "{c}::timestamp AT TIME ZONE 'UTC'",
        reverse: "({c} AT TIME ZONE 'UTC')::date",
        weight: 2,
        value: "(date '2024-02-20' + {g}::int)",
        conditions: &["isfinite({c})"],
        expressions: &["isfinite({c})"],
        defaults: &["CURRENT_DATE", "NULL"],
        sequence: false,
        ..INT
    },
    Conversion {
        from: "bigint",
        to: "timestamptz",
        using: "to_timestamp({c} / 1000.0)",
        reverse: "(extract(epoch FROM {c}) * 1000)::bigint",
        weight: 2,
        value: "(1700000000000 + {g}::bigint * 1234567)",
        conditions: &["{c} IS NULL OR {c} IS NOT NULL"],
        expressions: &[],
        defaults: &["NULL"],
        sequence: false,
        refers: false,
        referred: false,
        ..INT
    },
    Conversion {
        from: "json",
        to: "jsonb",
        weight: 2,
        value: "json_build_object('b', {g}, 'a', null)",
        conditions: &["({c} ->> 'b') IS NOT NULL OR {c} IS NULL"],
        expressions: &["({c} ->> 'b')"],
        defaults: &["'{}'", "NULL"],
        sequence: false,
        refers: false,
        referred: false,
        ordered: false,
        ..INT
    },
    Conversion {
        from: "text",
        to: "text COLLATE \"C\"",
        weight: 2,
        ..TEXT
    },
    Conversion {
        from: "real",
        to: "double precision",
        weight: 2,
        value: "({g} / 8.0)::real",
        conditions: &["{c} < 1000000"],
        expressions: &["abs({c})"],
        defaults: &["1.5", "0", "NULL"],
        sequence: false,
        ..INT
    },
];
