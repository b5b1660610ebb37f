-- A note, an index for the search by name, and a guard against negative prices.
ALTER TABLE products ADD COLUMN note text;
CREATE INDEX products_name ON products (lower(name));
ALTER TABLE products ADD CONSTRAINT products_price_positive CHECK (price >= 0);
