"""How an answer says that its numbers are not the live market's."""

MARKET_HEADER = "X-Flash-Pipeline-Market"
"""Set by the embedded exchange alone, on all of its answers: `simulated` for synthetic numbers,
`replay` for recorded ones."""
