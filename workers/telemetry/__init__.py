"""How a training process says what happens without ever waiting for anybody."""
