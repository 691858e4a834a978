"""The languages: what their files hold, as types, and where they are found."""
