"""Configuration: one YAML file, GoiPay's names, and everything wrong with it in one report."""

from daemon.config.schema import (
    AssetsConfig,
    CoinConfig,
    Config,
    DatabaseConfig,
    GrpcLimits,
    HttpConfig,
    LogConfig,
    LogFormat,
    Resolved,
    Secret,
    ServerConfig,
    TlsConfig,
    TlsMode,
    ZmqConfig,
    display_url,
)

__all__ = [
    "AssetsConfig",
    "CoinConfig",
    "Config",
    "DatabaseConfig",
    "GrpcLimits",
    "HttpConfig",
    "LogConfig",
    "LogFormat",
    "Resolved",
    "Secret",
    "ServerConfig",
    "TlsConfig",
    "TlsMode",
    "ZmqConfig",
    "display_url",
]
