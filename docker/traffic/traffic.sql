-- The old version of the application, by pgbench: reads, a changed total, another column, a new order.
\set id random(1, 1000000)
\set customer random(0, 4999)
\set total random(1, 99999)
SELECT total FROM orders WHERE id = :id;
UPDATE orders SET total = :total / 100.0, changed_at = now() WHERE id = :id;
UPDATE orders SET note = 'seen' WHERE id = :id;
INSERT INTO orders (customer, total) VALUES (:customer, :total / 100.0);
