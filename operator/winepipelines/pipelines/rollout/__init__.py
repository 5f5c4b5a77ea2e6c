"""How a candidate takes over from the model that serves: rollout, canary, and the way back."""
