// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

/// Tokens as they are met in the wild: the plain one, and what is wrong with others.

/// Balances and allowances, with the event that every token shares (ERC-20).
abstract contract Ledger {
    event Transfer(address indexed from, address indexed to, uint256 value);
    event Approval(address indexed owner, address indexed spender, uint256 value);

    uint256 public totalSupply;
    mapping(address => uint256) public balanceOf;
    mapping(address => mapping(address => uint256)) public allowance;

    constructor(uint256 supply) {
        totalSupply = supply;
        balanceOf[msg.sender] = supply;
        emit Transfer(address(0), msg.sender, supply);
    }

    function _approve(address spender, uint256 value) internal {
        allowance[msg.sender][spender] = value;
        emit Approval(msg.sender, spender, value);
    }

    function _spend(address from, uint256 value) internal {
        require(allowance[from][msg.sender] >= value, "allowance");
        allowance[from][msg.sender] -= value;
    }

    function _move(address from, address to, uint256 value) internal virtual {
        require(balanceOf[from] >= value, "balance");
        balanceOf[from] -= value;
        balanceOf[to] += value;
        emit Transfer(from, to, value);
    }
}

/// ERC-20 to the letter, but for the calls that answer true.
abstract contract Answering is Ledger {
    function transfer(address to, uint256 value) external returns (bool) {
        _move(msg.sender, to, value);
        return true;
    }

    function transferFrom(address from, address to, uint256 value) external returns (bool) {
        _spend(from, value);
        _move(from, to, value);
        return true;
    }

    function approve(address spender, uint256 value) external returns (bool) {
        _approve(spender, value);
        return true;
    }
}

/// The plain token. Whoever is behind an upgradable one can change what it says of itself.
contract Token is Answering {
    uint8 public decimals;

    constructor(uint8 decimals_, uint256 supply) Ledger(supply) {
        decimals = decimals_;
    }

    function setDecimals(uint8 decimals_) external {
        decimals = decimals_;
    }
}

/// Tether's way: transfer, transferFrom and approve return nothing.
contract SilentToken is Ledger {
    uint8 public constant decimals = 6;

    constructor(uint256 supply) Ledger(supply) {}

    function transfer(address to, uint256 value) external {
        _move(msg.sender, to, value);
    }

    function transferFrom(address from, address to, uint256 value) external {
        _spend(from, value);
        _move(from, to, value);
    }

    function approve(address spender, uint256 value) external {
        _approve(spender, value);
    }
}

/// Keeps one per cent of every transfer, rounded down; what arrives is what the log says.
contract FeeToken is Answering {
    uint8 public constant decimals = 18;
    address public immutable collector;

    constructor(uint256 supply) Ledger(supply) {
        collector = msg.sender;
    }

    function _move(address from, address to, uint256 value) internal override {
        uint256 fee = value / 100;
        super._move(from, to, value - fee);
        super._move(from, collector, fee);
    }
}

/// Writes the log and fails: the transaction is in a block, with status 0 and without logs.
contract FailingToken is Answering {
    uint8 public constant decimals = 18;

    constructor(uint256 supply) Ledger(supply) {}

    function _move(address from, address to, uint256 value) internal override {
        super._move(from, to, value);
        revert("frozen");
    }
}

/// `decimals` is optional in ERC-20, and this one has none.
contract NoDecimalsToken is Answering {
    constructor(uint256 supply) Ledger(supply) {}
}

/// Logs with the topic of Transfer that are no ERC-20 transfers.
contract OddLogs {
    function decimals() external pure returns (uint8) {
        return 18;
    }

    /// ERC-721: the number of the thing is a third topic, and there are no data.
    function thing(address to, uint256 which) external {
        bytes32 topic = keccak256("Transfer(address,address,uint256)");
        assembly {
            log4(0, 0, topic, caller(), to, which)
        }
    }

    /// Early tokens: nothing is indexed, all three stand in the data.
    function unindexed(address to, uint256 value) external {
        bytes32 topic = keccak256("Transfer(address,address,uint256)");
        assembly {
            mstore(0, caller())
            mstore(32, to)
            mstore(64, value) // where the free pointer is kept: nothing else is done after this
            log1(0, 96, topic)
        }
    }

    /// The right topics with too few, or too many, bytes of data.
    function sized(address to, uint256 bytes_) external {
        bytes32 topic = keccak256("Transfer(address,address,uint256)");
        assembly {
            log3(0x80, bytes_, topic, caller(), to)
        }
    }
}
