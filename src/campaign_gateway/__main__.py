"""`python -m campaign_gateway`."""

from campaign_gateway.cli import main

main()
