"""The networks that webhooks may go to, as a person writes them."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from daemon.config.values import networks

HERE = Path()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("10.0.0.0/8", ["10.0.0.0/8"]),
        ("127.0.0.1, ::1", ["127.0.0.1/32", "::1/128"]),
        ("fd00::/8,fd00::/8,", ["fd00::/8"]),
    ],
)
def test_networks(text, found):
    assert networks(text, HERE) == tuple(map(ip_network, found))


@pytest.mark.parametrize("text", ["10.0.0.1/8", "shop.example", "10.0.0.0/33", "1.2.3", "::/129"])
def test_what_is_no_network_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match=r"10\.0\.0\.0/8") as refused:
        networks(text, HERE)
    assert text not in str(refused.value)
