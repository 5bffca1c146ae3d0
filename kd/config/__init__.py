"""Config composition, identity and messages; importing it registers the resolvers."""

from kd.config import resolvers as resolvers
