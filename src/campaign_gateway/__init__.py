"""A GraphQL gateway that copies campaigns at marketing platforms, and never makes two."""
