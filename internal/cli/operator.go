package cli

import "github.com/spf13/cobra"

// addOperatorCommands adds what works with a server over the REST API.
func addOperatorCommands(inv *invocation, add func(group string, commands ...*cobra.Command)) {
	add(groupStart, loginCommand(inv, "login"), logoutCommand(inv, "logout"))
	add(groupPeople, userCommand(inv), tokenCommand(inv), orgCommand(inv), keyCommand(inv), sharedSecretCommand(inv), caCertificateCommand(inv), auditCommand(inv))
	add(groupFleet, productCommand(inv), firmwareCommand(inv), archiveCommand(inv), deploymentCommand(inv), deviceCommand(inv), scriptCommand(inv), notificationCommand(inv))
}
