-- What a copy that exists lacks, or what its provider remarked.
ALTER TABLE duplication ADD COLUMN warnings TEXT;

-- Some providers tell what a campaign was copied from.
CREATE INDEX duplication_by_kin ON duplication (platform, source_campaign_id)
    WHERE status IN ('IN_PROGRESS', 'UNKNOWN', 'ACCEPTED');
