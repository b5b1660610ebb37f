CREATE TABLE audit_2019 (
    id   bigint PRIMARY KEY,
    what text NOT NULL
);
CREATE INDEX audit_2019_what ON audit_2019 (what);

INSERT INTO audit_2019 SELECT n, 'event ' || n FROM generate_series(1, 500) AS n;
