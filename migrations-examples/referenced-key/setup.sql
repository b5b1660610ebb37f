CREATE TABLE orders (
    id    serial PRIMARY KEY,
    total numeric(12,2) NOT NULL DEFAULT 0
);
CREATE TABLE lines (
    order_id integer NOT NULL REFERENCES orders ON DELETE CASCADE,
    line     smallint NOT NULL,
    amount   numeric(12,2) NOT NULL,
    PRIMARY KEY (order_id, line)
);
CREATE TABLE shipments (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id integer NOT NULL,
    line     smallint NOT NULL,
    FOREIGN KEY (order_id, line) REFERENCES lines ON DELETE CASCADE DEFERRABLE
);
CREATE INDEX shipments_line ON shipments (order_id, line);

INSERT INTO orders (total) SELECT n FROM generate_series(1, 2000) AS n;
INSERT INTO lines SELECT n, 1, n FROM generate_series(1, 2000) AS n;
INSERT INTO shipments (order_id, line) SELECT n, 1 FROM generate_series(1, 2000, 2) AS n;
