"""The effect of contrastive distillation: the student's embedding identifies the teacher's."""
