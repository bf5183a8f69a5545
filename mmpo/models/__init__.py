"""What is special to one architecture family; loading, LoRA and saving on top of diffusers and peft."""
