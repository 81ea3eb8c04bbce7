"""How quickly the operator reacts, and what two hundred clusters cost it."""
