"""The built-in world: two coloured shapes in a stated order, a renderer, a verifier, and tiny checkpoints.

Nothing is imported here, so `mmpo.shapes.grammar`, `prompts`, `render` and `verifier` stay free of torch.
"""
