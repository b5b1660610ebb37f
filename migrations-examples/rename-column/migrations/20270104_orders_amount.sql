-- Until contract both names are read and written; at contract the column itself takes the new one.
ALTER TABLE orders RENAME COLUMN total TO amount;
