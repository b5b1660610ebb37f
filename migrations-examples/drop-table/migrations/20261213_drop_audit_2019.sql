-- The audit of 2019 is past its retention.

-- pgshift: contract
DROP TABLE audit_2019;
