-- Until contract the old name is a view, through which the old version reads and writes.
ALTER TABLE orders RENAME TO sales;
