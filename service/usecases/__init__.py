"""One public function for each thing a person, a worker or a loop can ask."""
