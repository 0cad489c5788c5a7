-- words: of a mark (`ostler_store::Mark`), which is no number.
ALTER TABLE meta ADD COLUMN words TEXT;
