"""Who may call: keys, tokens, rights and quotas."""
