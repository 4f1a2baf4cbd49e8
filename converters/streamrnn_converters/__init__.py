"""The workstation side: import models trained elsewhere, prove that nothing changed on the way."""
