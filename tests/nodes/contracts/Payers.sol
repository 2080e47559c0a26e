// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

interface TransferFrom {
    // Without a result, so that it may be called on tokens that return nothing.
    function transferFrom(address from, address to, uint256 value) external;
}

/// Pays from inside a call, as exchanges and wallets do: without a log, and the payee is not the
/// transaction's `to`.
contract Payer {
    receive() external payable {}

    /// A batch payout of the native coin.
    function pay(address[] calldata to, uint256[] calldata values) external payable {
        for (uint256 i = 0; i < to.length; i++) {
            _send(to[i], values[i]);
        }
    }

    /// A batch payout of a token that the sender has approved to this contract.
    function payTokens(address token, address[] calldata to, uint256[] calldata values) external {
        for (uint256 i = 0; i < to.length; i++) {
            TransferFrom(token).transferFrom(msg.sender, to[i], values[i]);
        }
    }

    /// The payee gets the value two calls deep.
    function payThrough(Payer other, address to, uint256 value) external payable {
        other.forward{value: value}(to);
    }

    function forward(address to) external payable {
        _send(to, msg.value);
    }

    /// The payment succeeds inside a call that fails: nothing is paid, the transaction succeeds.
    function payInFailingCall(address to, uint256 value) external payable {
        try this.payAndFail{value: value}(to) {
            revert("must fail");
        } catch {}
    }

    /// The whole transaction fails after the payment.
    function payAndFail(address to) external payable {
        _send(to, msg.value);
        revert("changed my mind");
    }

    /// The code of another contract sends this contract's coin. The value that the tracer shows on
    /// the DELEGATECALL itself is the caller's, and moves nothing.
    function payByDelegate(Payer library_, address to) external payable {
        (bool done, ) = address(library_).delegatecall(abi.encodeCall(Payer.forward, (to)));
        require(done, "delegate");
    }

    /// A new contract is made with the value in it; nobody has called it yet.
    function payIntoNewContract() external payable returns (address) {
        return address(new Purse{value: msg.value}());
    }

    /// A new contract ends in its constructor, and leaves its coin to the payee.
    function payByLastWill(address payable to) external payable {
        new LastWill{value: msg.value}(to);
    }

    function _send(address to, uint256 value) private {
        (bool done, ) = to.call{value: value}("");
        require(done, "refused");
    }
}

/// Holds coin until it is told to end.
contract Purse {
    constructor() payable {}

    /// SELFDESTRUCT moves the whole balance without calling the payee.
    function close(address payable to) external {
        selfdestruct(to);
    }
}

contract LastWill {
    constructor(address payable to) payable {
        selfdestruct(to);
    }
}
