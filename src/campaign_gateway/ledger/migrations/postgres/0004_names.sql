-- Columns and values get the names that the code and the schema have.
ALTER TABLE duplication RENAME COLUMN nonce TO attempt_id;
ALTER TABLE duplication RENAME COLUMN platform TO id_namespace;
ALTER TABLE duplication RENAME COLUMN seen TO preexisting_ids;
ALTER TABLE duplication RENAME COLUMN despite TO override_of;
DROP INDEX duplication_despite;
CREATE UNIQUE INDEX duplication_override ON duplication (scope, override_of) WHERE override_of IS NOT NULL;

UPDATE duplication SET evidence = 'RESPONSE' WHERE evidence = 'ANSWER';
UPDATE duplication SET evidence = 'OPERATOR' WHERE evidence = 'PERSON';
UPDATE duplication SET warnings = replace(replace(replace(warnings,
    '"code":"NOT_NAMED"', '"code":"NAME_NOT_APPLIED"'),
    '"code":"NOT_READ"', '"code":"DETAILS_UNKNOWN"'),
    '"code":"COPIED_IN_PART"', '"code":"PARTIAL_COPY"')
WHERE warnings IS NOT NULL;
