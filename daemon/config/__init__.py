"""Configuration: one YAML file, GoiPay's names, and everything wrong with it in one report."""

from daemon.config.environment import Flags, add_flags, create_state_dir, flags_from
from daemon.config.load import load_config
from daemon.config.problems import ConfigError, Problem
from daemon.config.reload import ReloadPlan, reloadable_changes
from daemon.config.schema import (
    AssetsConfig,
    CoinConfig,
    Config,
    DatabaseConfig,
    EvmConfig,
    GrpcLimits,
    HttpConfig,
    LogConfig,
    LogFormat,
    MoneroConfig,
    NodeUrl,
    Resolved,
    Secret,
    ServerConfig,
    TlsConfig,
    TlsMode,
    VaultConfig,
    ZmqConfig,
    display_url,
)

__all__ = [
    "AssetsConfig",
    "CoinConfig",
    "Config",
    "ConfigError",
    "DatabaseConfig",
    "EvmConfig",
    "Flags",
    "GrpcLimits",
    "HttpConfig",
    "LogConfig",
    "LogFormat",
    "MoneroConfig",
    "NodeUrl",
    "Problem",
    "ReloadPlan",
    "Resolved",
    "Secret",
    "ServerConfig",
    "TlsConfig",
    "TlsMode",
    "VaultConfig",
    "ZmqConfig",
    "add_flags",
    "create_state_dir",
    "display_url",
    "flags_from",
    "load_config",
    "reloadable_changes",
]
